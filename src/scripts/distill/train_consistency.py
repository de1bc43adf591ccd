"""Distil a pixel-space teacher by Consistency Distillation, on real pictures and without pairs (Table 6)."""

from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion2gan.pixel.consistency import ConsistencyTraining, ImageDataset
from diffusion2gan.pixel.edm import SIGMA_MIN
from diffusion2gan.pixel.model import PixelGenerator, PixelTeacher
from diffusion2gan.study import cli
from diffusion2gan.training import distillation, distributed


@dataclass(kw_only=True)
class Arguments(distillation.Settings):
    images: Path
    noise_levels: int = 18
    target_decay: float = 0.0


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = PixelTeacher(args.teacher, distributed.device())
    student = PixelGenerator.from_teacher(args.teacher, boundary=SIGMA_MIN)
    common = distillation.common(args, teacher, student, ImageDataset(args.images))
    training = ConsistencyTraining(args.noise_levels, args.target_decay, **common)
    distillation.finish(training, args)


if __name__ == "__main__":
    cli.run(main)
