"""Choose the prompts of a dataset of pairs."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.io import atomic
from diffusion2gan.pairs.prompts import Filter, choose_prompts
from diffusion2gan.study import cli


@dataclass
class Arguments:
    source: str
    count: int
    out: Path
    seed: int = 0
    caption_column: str | None = None
    score_column: str | None = None
    min_score: float | None = None
    shortest: int = Filter.shortest
    longest: int = Filter.longest


def main(args: Arguments):
    wanted = Filter(args.caption_column, args.score_column, args.min_score, args.shortest, args.longest)
    chosen = choose_prompts(args.source, args.count, args.seed, wanted)
    with atomic(args.out) as temporary:
        chosen.to_parquet(temporary, index=False)


if __name__ == "__main__":
    cli.run(main)
