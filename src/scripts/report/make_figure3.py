"""Figure 3: latents optimised from noise under each loss: curves, final images, and a table of final errors."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.numpy import load_file

from diffusion2gan.data.sources import find_source
from diffusion2gan.io import read_table
from diffusion2gan.report import figures
from diffusion2gan.report.tables import write_csv
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
    curves = dict(zip(args.losses, map(read_table, args.curves), strict=True))
    pictures = dict(zip(args.losses, map(load_file, args.pictures), strict=True))
    ends = [
        {"row": loss, "seed": seed, **end[["metric", "pixel_mse"]].mean()}
        for loss, curve in curves.items()
        for seed, end in curve[curve["step"] == curve["step"].max()].groupby("seed")
    ]
    write_csv(pd.DataFrame(ends), args.table)

    source = find_source(args.images)
    credit = source.attribution if source else ""
    target = pictures[args.losses[0]]["target"]
    found = {loss: ended["found"] for loss, ended in pictures.items()}
    figure = figures.reconstructions(curves, target, found, credit)
    figures.save(figure, args.out, f"Latents optimised from noise under: {', '.join(args.losses)}.", credit)


if __name__ == "__main__":
    cli.run(main)
