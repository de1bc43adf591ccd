"""A table as a figure: FID against what each row costs, measured and as the paper reports it."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan import cli, figures, tables


@dataclass
class Arguments:
    table: Path
    cost: str
    out: Path


def main(args: Arguments):
    table = pd.read_csv(args.table, dtype={"seeds": str})
    _, words = tables.COSTS[args.cost]
    description = "; ".join([f"FID against {words}", *tables.protocol(table, [])])
    figures.save(figures.against(table.groupby("label", sort=False), args.cost), args.out, description)


if __name__ == "__main__":
    cli.run(main)
