"""The whole study as one self-contained page: claims, tables, figures, the records behind each number, the cost."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from diffusion2gan.io import read_table, write_text
from diffusion2gan.report import workflow
from diffusion2gan.report.claims import read_claims
from diffusion2gan.report.inputs import read_metrics
from diffusion2gan.report.page import render_report
from diffusion2gan.study import cli, config
from diffusion2gan.study.study import Study


@dataclass
class Arguments:
    config: Path
    jobs: Path
    timings: Path
    captions: Path
    stated: Path  # claims.yaml
    out: Path
    claims: Path | None = None  # results/claims.csv
    tables: list[Path] = field(default_factory=list)
    seeds: list[Path] = field(default_factory=list)  # the same tables seed by seed, in the same order
    figures: list[Path] = field(default_factory=list)


def main(args: Arguments):
    page = render_report(
        study=Study(config.read(args.config)),
        measured={
            table.stem: (read_table(table, dtype={"seeds": str}), read_metrics(files_behind(seeds)))
            for table, seeds in zip(args.tables, args.seeds, strict=True)
        },
        claims=read_table(args.claims, dtype=str) if args.claims else None,
        stated=read_claims(args.stated),
        figures={path.stem: path for path in args.figures},
        captions=yaml.safe_load(args.captions.read_text(encoding="utf-8")),
        graph=workflow.rule_graph(args.jobs.read_text(encoding="utf-8")),
        timings=workflow.read_timings(args.timings),
    )
    write_text(args.out, page)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


def files_behind(seeds: Path) -> list[Path]:
    """The metrics files behind a table, from its version seed by seed."""
    return [Path(file) for files in read_table(seeds)["files"] for file in files.split()]


if __name__ == "__main__":
    cli.run(main)
