"""Choose the prompts of a dataset of pairs."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan import cli
from diffusion2gan.datasets.captions import prompts
from diffusion2gan.training.checkpoint import atomic


@dataclass
class Arguments:
    source: str
    count: int
    out: Path
    seed: int = 0


def main(args: Arguments):
    chosen = prompts(args.source, args.count, args.seed)
    with atomic(args.out) as temporary:
        chosen.to_parquet(temporary, index=False)


if __name__ == "__main__":
    cli.run(main)
