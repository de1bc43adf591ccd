"""Draw the pictures of a benchmark with a teacher, a student or a peer, picture i from noise (seed, i)."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd
import torch

from diffusion2gan import cli, samples
from diffusion2gan.drawing import Drawing
from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png, to_uint8
from diffusion2gan.provenance import sha256
from diffusion2gan.training.progress import track


@dataclass(kw_only=True)
class Arguments(Drawing):
    prompts: Path
    count: int  # of prompts
    out: Path
    repeats: int = 1  # pictures of each prompt, one after the other
    batch_size: int = 16
    seed: int = 0


def main(args: Arguments):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    captions = pd.read_parquet(args.prompts)["caption"].tolist()[: args.count]
    if len(captions) < args.count:
        raise UserError(f"{args.prompts} holds {len(captions)} prompts, {args.count} pictures were asked for")
    drawing = Drawing(**{each.name: getattr(args, each.name) for each in fields(Drawing)})
    draw, _ = drawing.load(device)

    pictures = args.count * args.repeats
    recipe = {
        **asdict(drawing),
        **cli.settings_of(args, ["repeats", "batch_size", "seed"]),
        "count": pictures,
        "precision": str(drawing.precision(device)).removeprefix("torch."),
        "captions_sha256": sha256(captions),
    }
    samples.create(args.out, recipe)
    for first in track(range(0, pictures, args.batch_size), f"drawing with {args.model}"):
        batch = range(first, min(first + args.batch_size, pictures))
        images = draw(samples.noise_seeds(args.seed, batch), [captions[i // args.repeats] for i in batch])
        for i, picture in zip(batch, to_uint8(images), strict=True):
            save_png(picture, args.out / f"{i:05d}.png")


if __name__ == "__main__":
    cli.run(main)
