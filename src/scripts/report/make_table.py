"""Make one table of the paper: measured numbers beside the reported ones, as csv and as a page to read."""

from dataclasses import dataclass, field
from pathlib import Path

from diffusion2gan.report import display, inputs, tables
from diffusion2gan.report.rendering import write_page
from diffusion2gan.study import cli


@dataclass
class Arguments:
    table: str
    rows: list[str]
    scale: str
    out: Path
    metrics: list[Path] = field(default_factory=list)
    reported: Path = inputs.REPORTED
    columns: list[str] = field(default_factory=list)
    reimplemented: list[str] = field(default_factory=list)
    seeds: Path | None = None
    markdown: Path | None = None


def main(args: Arguments):
    records = inputs.read_metrics(args.metrics)
    paper = inputs.read_paper(args.table, args.reported)
    given = args.table, args.rows, records, paper, args.scale, args.columns
    frame = tables.aggregate_table(*given, reimplemented=args.reimplemented)
    tables.write_csv(frame, args.out)
    if args.seeds:
        tables.write_csv(tables.per_seed(records), args.seeds)
    if args.markdown:
        shown, protocol = display.for_readers(frame), display.protocol(frame, records)
        number = args.table.removeprefix("table")
        write_page(args.markdown, "table.md", number=number, table=shown, protocol=protocol)
    print(display.for_terminal(frame))


if __name__ == "__main__":
    cli.run(main)
