"""Estimate the cost of a study before it runs: results/plan.csv, and results/plan.md to show to others."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from diffusion2gan.io import atomic
from diffusion2gan.study import cli, cost
from diffusion2gan.study.study import Study


@dataclass
class Arguments:
    config: Path
    dry_run: Path
    out: Path
    readable: Path
    targets: list[str] = field(default_factory=list)


def main(args: Arguments):
    study = Study(json.loads(args.config.read_text(encoding="utf-8")))
    table = cost.plan(study, cost.planned(args.dry_run.read_text(encoding="utf-8")))
    free = shutil.disk_usage(args.dry_run.parent).free
    text = cost.markdown(study, table, args.targets, free)
    with atomic(args.out) as temporary:
        table.round(4).to_csv(temporary, index=False)
    with atomic(args.readable) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    cli.run(main)
