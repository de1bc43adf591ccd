"""Figure 5: the discriminator's U-Net, drawn from the module itself, without weights."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.report import diagrams, figures, tracing
from diffusion2gan.study import cli


@dataclass
class Arguments:
    teacher: str
    z_conditioning: bool
    multi_scale: bool
    out: Path


def main(args: Arguments):
    traced = tracing.discriminator(args.teacher, args.z_conditioning, args.multi_scale)
    description = f"The discriminator that starts as {args.teacher}, with {len(traced.readouts)} readouts."
    figures.save(diagrams.discriminator(traced, args.teacher), args.out, description)


if __name__ == "__main__":
    cli.run(main)
