"""The whole study as one page that loads nothing: claims, tables, figures, what is behind each number, and its cost."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from diffusion2gan.io import atomic
from diffusion2gan.report import page as report
from diffusion2gan.report import tables, workflow
from diffusion2gan.study import cli, config
from diffusion2gan.study.study import Study


@dataclass
class Arguments:
    config: Path
    jobs: Path
    timings: Path
    captions: Path
    out: Path
    claims: Path | None = None
    tables: list[Path] = field(default_factory=list)
    seeds: list[Path] = field(default_factory=list)  # of the tables, in their order
    figures: list[Path] = field(default_factory=list)


def main(args: Arguments):
    page = report.render(
        study=Study(config.read(args.config)),
        measured={
            table.stem: (pd.read_csv(table, dtype={"seeds": str}), tables.read_metrics(files_behind(seeds)))
            for table, seeds in zip(args.tables, args.seeds, strict=True)
        },
        claims=pd.read_csv(args.claims, dtype=str) if args.claims else None,
        figures={path.stem: path for path in args.figures},
        captions=yaml.safe_load(args.captions.read_text(encoding="utf-8")),
        graph=workflow.rule_graph(args.jobs.read_text(encoding="utf-8")),
        spent=workflow.spent(args.timings),
    )
    with atomic(args.out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


def files_behind(seeds: Path) -> list[Path]:
    """The metrics files that a table is made of, as its table of single seeds names them."""
    return [Path(file) for files in pd.read_csv(seeds)["files"] for file in files.split()]


if __name__ == "__main__":
    cli.run(main)
