"""Verify the shards of a dataset of pairs and write their index."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.io import atomic
from diffusion2gan.pairs.shards import index_shards
from diffusion2gan.study import cli


@dataclass
class Arguments:
    prompts: Path
    shards: list[Path]
    out: Path


def main(args: Arguments):
    index = index_shards(args.shards, args.prompts)
    with atomic(args.out) as temporary:
        index.to_parquet(temporary, index=False)


if __name__ == "__main__":
    cli.run(main)
