"""Figure 4: the networks and losses that train a student, drawn from the modules without loading weights."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.report import diagrams, figures, tracing
from diffusion2gan.study import cli
from diffusion2gan.teacher import SOLVERS


@dataclass
class Arguments:
    teacher: str
    ensemble: str
    trunk_width: float
    z_conditioning: bool
    multi_scale: bool
    count: int
    solver: str
    steps: int
    guidance: float
    out: Path


def main(args: Arguments):
    graph = tracing.trace_overview(args.teacher, args.ensemble, args.trunk_width, args.z_conditioning, args.multi_scale)
    solving = [
        f"{SOLVERS[args.solver].__name__}, {args.steps} steps",
        f"guidance {args.guidance:g}; {args.count:,} pairs",
    ]
    figure = diagrams.draw_overview(graph, solving, args.teacher)
    description = f"A student of {args.teacher}, the pairs it learns from, and its two losses."
    figures.save(figure, args.out, description)


if __name__ == "__main__":
    cli.run(main)
