"""Plot the histories of trainings, also while they run: `python … work/toy/runs/*/history.csv --out curves.png`."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.errors import UserError
from diffusion2gan.io import read_table
from diffusion2gan.report import figures
from diffusion2gan.study import cli


@dataclass
class Arguments:
    histories: list[Path]
    out: Path


def main(args: Arguments):
    if not args.histories:
        raise UserError("no histories: give one or more history.csv")
    names = [path.parent.name for path in args.histories]
    histories = {}
    for path, name in zip(args.histories, names, strict=True):
        history = read_table(path)
        histories[name if names.count(name) == 1 else str(path.parent)] = history
        if lacking := {"step", "loss"} - set(history):
            raise UserError(f"{path} is no history of a training, it lacks {', '.join(sorted(lacking))}: give others")
    description = f"Histories of {', '.join(histories)}"
    figures.save(figures.curves(histories), args.out, description, vector=False)


if __name__ == "__main__":
    cli.run(main)
