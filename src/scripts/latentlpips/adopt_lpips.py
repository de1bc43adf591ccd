"""Convert a published metric to this project's file format."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.errors import UserError
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.study import cli


@dataclass
class Arguments:
    metric: Path
    space: str
    out: Path


def main(args: Arguments):
    metric = LPIPS.load(args.metric)
    if metric.space != args.space.split("-")[0]:
        raise UserError(f"{args.metric} compares {metric.space}s, but `metrics` lists it for {args.space}")
    metric.save(args.out)


if __name__ == "__main__":
    cli.run(main)
