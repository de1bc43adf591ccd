"""Distil a pixel-space teacher by Consistency Distillation, on real images and without pairs (Table 6)."""

from pathlib import Path

import torch
from pydantic import Field

from diffusion2gan.pixel.consistency import ConsistencyTraining, ImageDataset
from diffusion2gan.pixel.edm import SIGMA_MIN
from diffusion2gan.pixel.model import PixelGenerator, PixelTeacher
from diffusion2gan.settings import ConsistencySettings
from diffusion2gan.study import cli
from diffusion2gan.training import distillation, distributed


class Arguments(ConsistencySettings, distillation.Arguments):
    images: Path = Field(description="folder of real images")


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = PixelTeacher(args.teacher, distributed.device())
    student = PixelGenerator.from_teacher(args.teacher, boundary=SIGMA_MIN)
    images, loss = ImageDataset(args.images), distillation.loss_of(args, teacher)
    training = ConsistencyTraining(student, teacher, images, loss, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
