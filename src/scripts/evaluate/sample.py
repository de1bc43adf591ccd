"""Sample prompts with a student, a teacher or a published pipeline, image i from the noise of (seed, i).

    python src/scripts/evaluate/sample.py --model work/toy/runs/diffusion2gan/student \\
        --prompt "a fox on a blue background" --out fox.png
    python src/scripts/evaluate/sample.py --model assets/toy/teacher --scheduler ddim --steps 16 --guidance 3 \\
        --prompt "a fox on a blue background" "an owl on a red background" --repeats 4 --out pictures

The first command samples one image with a student. The second samples eight with a teacher, into a folder with their
recipe, `sample.json`. With the same seed, all models with noise of the same size start image i from the same noise.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png
from diffusion2gan.io import atomic
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import noise_seeds, prepare_folder
from diffusion2gan.sampling.sampler import SamplingSettings, sample_images
from diffusion2gan.study import cli


@dataclass(kw_only=True)
class Arguments(SamplingSettings):
    out: Path = cli.option(help="a folder, or for a single picture the name of a .png")
    prompt: list[str] = cli.option(default_factory=list, help="one or several, each in quotes")
    prompts: Path | None = cli.option(default=None, help="or a parquet file of them, as a benchmark's")
    count: int = cli.option(default=0, help="how many of that file; 0 is all")
    repeats: int = cli.option(default=1, help="pictures of each prompt, one after the other")
    batch_size: int = cli.option(default=16, help="pictures drawn at once")
    seed: int = cli.option(default=0, help="of the noise")


def main(args: Arguments):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    captions = [caption for caption in read_prompts(args) for _ in range(args.repeats)]
    single = args.out.suffix == ".png"
    if single and len(captions) > 1:
        raise UserError(f"{args.out} holds one image and there are {len(captions)}: give --out a folder")
    settings = SamplingSettings(**{each.name: getattr(args, each.name) for each in fields(SamplingSettings)})
    sample, _ = settings.load(device)
    seeds = noise_seeds(args.seed, range(len(captions)))
    images = sample_images(sample, seeds, captions, args.batch_size, f"sampling with {args.model}")

    if single:
        (image,) = images
        with atomic(args.out) as temporary:
            save_png(image, temporary)
        return
    recipe = {
        **asdict(settings),
        **cli.settings_of(args, ["repeats", "batch_size", "seed"]),
        "count": len(captions),
        "precision": str(settings.precision(device)).removeprefix("torch."),
        "captions_sha256": json_sha256(captions[:: args.repeats]),
    }
    prepare_folder(args.out, recipe)
    for i, image in enumerate(images):
        save_png(image, args.out / f"{i:05d}.png")


def read_prompts(args: Arguments) -> list[str]:
    """The prompts of the command line, or of the file."""
    if bool(args.prompt) == bool(args.prompts):
        raise UserError("no prompts, or two kinds: type --prompt TEXT, or give --prompts FILE")
    if args.prompt:
        return args.prompt
    captions = pd.read_parquet(args.prompts)["caption"].tolist()
    if len(captions) < args.count:
        raise UserError(f"{args.prompts} holds {len(captions)} prompts, {args.count} were requested")
    return captions[: args.count or None]


if __name__ == "__main__":
    cli.run(main)
