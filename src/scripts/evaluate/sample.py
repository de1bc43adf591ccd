"""Sample pictures of prompts with a student, a teacher or a published pipeline, picture i from noise (seed, i).

    python src/scripts/evaluate/sample.py --model work/toy/runs/diffusion2gan/student \\
        --prompt "a fox on a blue background" --out fox.png
    python src/scripts/evaluate/sample.py --model assets/toy/teacher --scheduler ddim --steps 16 --guidance 3 \\
        --prompt "a fox on a blue background" "an owl on a red background" --repeats 4 --out pictures

The first samples one picture with a student; the second, eight with a teacher, in a folder with `sample.json`, which
says how. With the same seed all models start picture i from the same noise, if theirs is of one size.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png, to_uint8
from diffusion2gan.io import atomic
from diffusion2gan.progress import track
from diffusion2gan.provenance import sha256
from diffusion2gan.sampling import folder as samples
from diffusion2gan.sampling import sampler
from diffusion2gan.settings import Count, SamplingSettings, Seeded, Size
from diffusion2gan.study import cli


class Arguments(Seeded, SamplingSettings):
    out: Path = Field(description="a folder, or for a single picture the name of a .png")
    prompt: list[str] = Field([], description="one or several, each in quotes")
    prompts: Path | None = Field(None, description="or a parquet file of them, as a benchmark's")
    count: Size = Field(0, description="how many of that file; 0: all")
    repeats: Count = Field(1, description="pictures of each prompt, one after the other")
    batch_size: Count = Field(16, description="pictures sampled at once")


def main(args: Arguments):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    captions = [caption for caption in read_prompts(args) for _ in range(args.repeats)]
    single = args.out.suffix == ".png"
    if single and len(captions) > 1:
        raise UserError(f"{args.out} holds one picture and there are {len(captions)}: give --out a folder")
    settings = SamplingSettings(**{name: getattr(args, name) for name in SamplingSettings.model_fields})
    sample, _ = sampler.load(settings, device)

    def drawn() -> Iterator[np.ndarray]:
        for first in track(range(0, len(captions), args.batch_size), f"sampling with {args.model}"):
            texts = captions[first : first + args.batch_size]
            seeds = samples.noise_seeds(args.seed, range(first, first + len(texts)))
            yield from to_uint8(sample(seeds, texts))

    if single:
        (picture,) = drawn()
        with atomic(args.out) as temporary:
            save_png(picture, temporary)
        return
    recipe = {
        **settings.model_dump(),
        **cli.settings_of(args, ["repeats", "batch_size", "seed"]),
        "count": len(captions),
        "precision": str(sampler.precision(settings, device)).removeprefix("torch."),
        "captions_sha256": sha256(captions[:: args.repeats]),
    }
    samples.create(args.out, recipe)
    for i, picture in enumerate(drawn()):
        save_png(picture, args.out / f"{i:05d}.png")


def read_prompts(args: Arguments) -> list[str]:
    """The prompts that were typed, or those of the file."""
    if bool(args.prompt) == bool(args.prompts):
        raise UserError("there are no prompts, or two kinds: type --prompt TEXT, or give --prompts FILE")
    if args.prompt:
        return args.prompt
    captions = pd.read_parquet(args.prompts)["caption"].tolist()
    if len(captions) < args.count:
        raise UserError(f"{args.prompts} holds {len(captions)} prompts, {args.count} pictures were asked for")
    return captions[: args.count or None]


if __name__ == "__main__":
    cli.run(main)
