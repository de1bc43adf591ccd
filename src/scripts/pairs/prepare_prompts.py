"""Choose the prompts of a dataset of pairs.

If captions are reused, the metadata of the file count the pairs and the distinct captions.
"""

import sys
from pathlib import Path

from diffusion2gan.io import atomic
from diffusion2gan.pairs.prompts import choose_prompts
from diffusion2gan.settings import Count, PromptFilter, Seeded
from diffusion2gan.study import cli


class Arguments(PromptFilter, Seeded):
    source: str
    count: Count
    out: Path


def main(args: Arguments):
    chosen = choose_prompts(args.source, args.count, args.seed, args)
    if reused := chosen.attrs:
        print(
            f"warning: {args.source} holds {reused['distinct']:,} distinct captions that can be used for "
            f"{reused['pairs']:,} pairs: captions are reused",
            file=sys.stderr,
        )
    with atomic(args.out) as temporary:
        chosen.to_parquet(temporary, index=False)


if __name__ == "__main__":
    cli.run(main)
