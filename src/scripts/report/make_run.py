"""Make a table of one run: its metrics beside the paper's numbers, as csv."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.report import display, inputs, tables
from diffusion2gan.study import cli


@dataclass
class Arguments:
    run: str
    metrics: list[Path]
    out: Path
    reported: Path = inputs.REPORTED


def main(args: Arguments):
    records, paper = inputs.read_metrics(args.metrics), inputs.read_paper(path=args.reported)
    frame = tables.aggregate_run(args.run, records, paper)
    tables.write_csv(frame, args.out)
    print(display.for_terminal(frame))


if __name__ == "__main__":
    cli.run(main)
