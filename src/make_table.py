"""Gather one table of the paper: measured numbers beside the reported ones."""

from dataclasses import dataclass, field
from pathlib import Path

from diffusion2gan import cli, tables


@dataclass
class Arguments:
    table: str
    rows: list[str]
    scale: str
    out: Path
    metrics: list[Path] = field(default_factory=list)
    reported: Path = tables.REPORTED


def main(args: Arguments):
    paper = tables.reported(args.table, args.reported)
    frame = tables.table(args.table, args.rows, tables.read_metrics(args.metrics), paper, args.scale)
    tables.write(frame, args.out)
    print(tables.pretty(frame))


if __name__ == "__main__":
    cli.run(main)
