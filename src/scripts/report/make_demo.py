"""What `make demo` made: the scores of teacher and student, where their images are, and how to load the student."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan.io import write_text
from diffusion2gan.report.inputs import read_metrics
from diffusion2gan.study import cli

SNIPPET = """\
import diffusion2gan  # first: it repairs a torchvision whose operators do not load beside a CPU build of torch
from diffusers import StableDiffusionPipeline

student = StableDiffusionPipeline.from_pretrained("{student}")
student("a fox on a blue background", num_inference_steps=1, guidance_scale=0).images[0].save("fox.png")
"""


@dataclass
class Arguments:
    metrics: list[Path]  # of each model
    labels: list[str]  # of the same models
    figure: Path
    student: Path
    out: Path


def main(args: Arguments):
    text = f"{scores(args)}\n\nImages: {args.figure}\nTo sample from the student, type in {sys.executable}:\n\n"
    text += SNIPPET.format(student=args.student)
    write_text(args.out, text)


def scores(args: Arguments) -> str:
    """Steps, FID and CLIP score of each model, as a table for the terminal."""
    lines = {
        label: {
            "steps": record["sample"]["steps"],
            "FID": f"{record['metrics']['fid']:.1f}",
            "CLIP score": f"{record['metrics']['clip_score']:.3f}",
        }
        for label, record in zip(args.labels, read_metrics(args.metrics), strict=True)
    }
    return pd.DataFrame.from_dict(lines, orient="index").to_string()


if __name__ == "__main__":
    cli.run(main)
