"""Figure 5: the discriminator's U-Net, drawn from the module without loading weights."""

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
    graph = tracing.trace_teacher_discriminator(args.teacher, args.z_conditioning, args.multi_scale)
    description = f"The discriminator that starts as {args.teacher}, with {len(tracing.readouts(graph))} readouts."
    figures.save(diagrams.draw_discriminator(graph, args.teacher), args.out, description)


if __name__ == "__main__":
    cli.run(main)
