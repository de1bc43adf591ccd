"""Table 6 as a figure: FID against the evaluations that each method spent."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan import cli, figures, tables

METHODS = {"regression-lpips": "ODE distillation (LPIPS)", "consistency-distillation": "Consistency Distillation"}


@dataclass
class Arguments:
    table: Path
    out: Path


def main(args: Arguments):
    table = pd.read_csv(args.table, dtype={"seeds": str})
    curves = [(method, table[table["row"].str.startswith(start)]) for start, method in METHODS.items()]
    description = "; ".join(["FID against network evaluations, a curve a method", *tables.protocol(table, [])])
    figures.save(figures.against(curves, "nfe_million"), args.out, description)


if __name__ == "__main__":
    cli.run(main)
