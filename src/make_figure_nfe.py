"""Table 6 as a figure: FID against the evaluations that each method spent."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan import cli, figures

METHODS = {"regression-lpips": "ODE distillation (LPIPS)", "consistency-distillation": "Consistency Distillation"}


@dataclass
class Arguments:
    table: Path
    out: Path


def main(args: Arguments):
    table = pd.read_csv(args.table)
    measured = table.dropna(subset=["nfe_million", "fid"])
    where = f"measured at scale {', '.join(measured['scale'].unique())} on {', '.join(measured['benchmark'].unique())}"
    description = f"FID against millions of network evaluations, {where}; the paper's on CIFAR-10 behind"
    figures.save(figures.quality_of_compute(table, METHODS), args.out, description)


if __name__ == "__main__":
    cli.run(main)
