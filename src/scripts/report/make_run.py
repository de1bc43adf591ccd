"""Gather one run's metrics, beside what the paper reports of it, in one csv."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.report import tables
from diffusion2gan.study import cli


@dataclass
class Arguments:
    run: str
    metrics: list[Path]
    out: Path
    reported: Path = tables.REPORTED


def main(args: Arguments):
    frame = tables.run(args.run, tables.read_metrics(args.metrics), tables.reported(path=args.reported))
    tables.write(frame, args.out)
    print(tables.pretty(frame))


if __name__ == "__main__":
    cli.run(main)
