"""Count what a study costs before it is paid for: results/plan.csv, and results/plan.md to show to others."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from diffusion2gan.io import atomic
from diffusion2gan.study import cli, config, cost, jobs, plan
from diffusion2gan.study.study import Study


@dataclass
class Arguments:
    config: Path
    out: Path
    readable: Path
    targets: list[str] = field(default_factory=list)


def main(args: Arguments):
    study = Study(config.read(args.config))
    table = cost.plan(study, jobs.planned(args.targets, args.config))
    text = plan.markdown(study, table, args.targets, shutil.disk_usage(args.config.parent).free)
    with atomic(args.out) as temporary:
        table.round(4).to_csv(temporary, index=False)
    with atomic(args.readable) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    cli.run(main)
