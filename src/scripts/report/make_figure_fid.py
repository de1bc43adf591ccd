"""A table as a figure: FID against the cost of each row, as measured and as reported by the paper."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan.io import read_table
from diffusion2gan.report import display, figures
from diffusion2gan.study import cli

# Table 6 has one curve per method; other tables one point per row
METHODS = {"regression-lpips": "ODE distillation (LPIPS)", "consistency-distillation": "Consistency Distillation"}


@dataclass
class Arguments:
    table: Path
    cost: str
    out: Path


def main(args: Arguments):
    table = read_table(args.table, dtype={"seeds": str})
    _, words = figures.COST_AXES[args.cost]
    description = "; ".join([f"FID against {words}", *display.protocol(table, [])])
    figures.save(figures.against(series(table, args.cost), args.cost), args.out, description)


def series(table: pd.DataFrame, cost: str) -> list[tuple[str, pd.DataFrame]]:
    """The rows to draw in one colour: those of a method against network evaluations, otherwise a single row."""
    if cost == "nfe_million":
        return [(method, table[table["row"].str.startswith(start)]) for start, method in METHODS.items()]
    return list(table.groupby("label", sort=False))


if __name__ == "__main__":
    cli.run(main)
