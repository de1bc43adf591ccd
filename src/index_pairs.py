"""Verify the shards of a dataset of pairs and write their index."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan import cli
from diffusion2gan.files import atomic
from diffusion2gan.pairs import index_shards


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
