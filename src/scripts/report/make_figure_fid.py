"""A table as a figure: FID against what each row costs, measured and as the paper reports it."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan.report import figures, tables
from diffusion2gan.study import cli

# Table 6 is a curve for each method; elsewhere a row is a point
METHODS = {"regression-lpips": "ODE distillation (LPIPS)", "consistency-distillation": "Consistency Distillation"}


@dataclass
class Arguments:
    table: Path
    cost: str
    out: Path


def main(args: Arguments):
    table = pd.read_csv(args.table, dtype={"seeds": str})
    _, words = tables.COSTS[args.cost]
    description = "; ".join([f"FID against {words}", *tables.protocol(table, [])])
    figures.save(figures.against(series(table, args.cost), args.cost), args.out, description)


def series(table: pd.DataFrame, cost: str) -> list[tuple[str, pd.DataFrame]]:
    """What is drawn in one colour: a method's rows where evaluations are counted, otherwise a row."""
    if cost == "nfe_million":
        return [(method, table[table["row"].str.startswith(start)]) for start, method in METHODS.items()]
    return list(table.groupby("label", sort=False))


if __name__ == "__main__":
    cli.run(main)
