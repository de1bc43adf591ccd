"""Sample images with a student, a teacher or a published pipeline; image i starts from the noise of (seed, i).

    python src/scripts/evaluate/sample.py --model work/toy/runs/diffusion2gan/student \\
        --prompt "a fox on a blue background" --out fox.png
    python src/scripts/evaluate/sample.py --model assets/toy/teacher --scheduler ddim --steps 16 --guidance 3 \\
        --prompt "a fox on a blue background" "an owl on a red background" --repeats 4 --out pictures

The first command samples one image with a student. The second samples eight with a teacher, into a folder with their
recipe, `sample.json`. With the same seed, all models with noise of the same size start image i from the same noise.
Several jobs can share a folder, each with another `--shard`. A killed job resumes.
"""

from pathlib import Path

import torch
from PIL import Image
from pydantic import Field, NonNegativeInt

from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png
from diffusion2gan.io import atomic
from diffusion2gan.pairs.prompts import read_captions
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import batches_of_shard, image_path, noise_seeds, sampled_shard
from diffusion2gan.sampling.sampler import load_sampler, sample_images, sampling_precision
from diffusion2gan.settings import Count, Sampled, SamplingSettings, Seeded
from diffusion2gan.study import cli


class Arguments(Seeded, Sampled, SamplingSettings):
    out: Path = Field(description="a folder, or a .png file for a single image")
    prompt: list[str] = Field([], description="one or several prompts, each in quotes")
    prompts: Path | None = Field(None, description="or a parquet file of prompts, such as a benchmark's")
    count: NonNegativeInt = Field(0, description="number of prompts to use from that file; 0: all")
    repeats: Count = Field(1, description="images of each prompt, one after the other")
    shards: Count = Field(1, description="number of jobs that sample into the folder")
    shard: NonNegativeInt = Field(0, description="index of this job, from 0")


def main(args: Arguments):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what is not in half precision
    captions = [caption for caption in read_prompts(args) for _ in range(args.repeats)]
    single = args.out.suffix == ".png"
    if not single and args.out.suffix.lower() in Image.registered_extensions():
        raise UserError(f"--out {args.out}: an image is written as .png: give a name that ends in .png, or a folder")
    if single and len(captions) > 1:
        raise UserError(f"{args.out} holds one image, but {len(captions)} are sampled: give --out a folder")
    if args.shard >= args.shards:
        raise UserError(f"there is no shard {args.shard} of {args.shards}: shards are counted from 0")
    settings = SamplingSettings(**{name: getattr(args, name) for name in SamplingSettings.model_fields})
    sampler, _ = load_sampler(settings, device)
    seeds = noise_seeds(args.seed, range(len(captions)))
    said = f"sampling with {args.model}"

    if single:
        ((_, image),) = sample_images(sampler, seeds, captions, [range(1)], said)
        with atomic(args.out) as temporary:
            save_png(image, temporary)
        return
    recipe = {
        **settings.model_dump(),
        **cli.settings_of(args, ["repeats", "batch_size", "seed"]),
        "count": len(captions),
        "precision": str(sampling_precision(settings, device)).removeprefix("torch."),
        "captions_sha256": json_sha256(captions[:: args.repeats]),
    }
    batches = batches_of_shard(len(captions), args.batch_size, args.shard, args.shards)
    with sampled_shard(args.out, recipe, batches, args.shard, args.shards, Path(args.model)) as left:
        for i, image in sample_images(sampler, seeds, captions, left, said):
            save_png(image, image_path(args.out, i))


def read_prompts(args: Arguments) -> list[str]:
    """The prompts of the command line, or of the file."""
    if bool(args.prompt) == bool(args.prompts):
        raise UserError("no prompts, or two kinds: type --prompt TEXT, or give --prompts FILE")
    if args.prompt:
        return args.prompt
    captions = read_captions(args.prompts)
    if len(captions) < args.count:
        raise UserError(f"{args.prompts} holds {len(captions)} prompts, {args.count} were requested: reduce --count")
    return captions[: args.count or None]


if __name__ == "__main__":
    cli.run(main)
