"""Figure 3: what each loss makes of a latent that starts as noise: curves, pictures, and where they end."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.numpy import load_file

from diffusion2gan.data.sources import find_source
from diffusion2gan.report import figures, tables
from diffusion2gan.study import cli


@dataclass
class Arguments:
    losses: list[str]
    curves: list[Path]
    pictures: list[Path]
    images: str
    out: Path
    table: Path


def main(args: Arguments):
    curves = dict(zip(args.losses, map(pd.read_csv, args.curves), strict=True))
    pictures = dict(zip(args.losses, map(load_file, args.pictures), strict=True))
    ends = [
        {"row": loss, "seed": seed, **end[["metric", "pixel_mse"]].mean()}
        for loss, curve in curves.items()
        for seed, end in curve[curve["step"] == curve["step"].max()].groupby("seed")
    ]
    tables.write(pd.DataFrame(ends), args.table)

    source = find_source(args.images)
    attribution = source.attribution if source else ""
    target = pictures[args.losses[0]]["target"]
    found = {loss: ended["found"] for loss, ended in pictures.items()}
    figure = figures.reconstructions(curves, target, found, attribution)
    figures.save(figure, args.out, f"Latents found again from noise under: {', '.join(args.losses)}.", attribution)


if __name__ == "__main__":
    cli.run(main)
