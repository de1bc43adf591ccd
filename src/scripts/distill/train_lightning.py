"""Halve the steps of a student with a discriminator: SDXL-Lightning (Lin et al. 2024, Table 5)."""

from pathlib import Path

import torch
from pydantic import Field

from diffusion2gan.discriminators.unet import EncoderDiscriminator
from diffusion2gan.generator import load_student
from diffusion2gan.methods.lightning import LightningTraining
from diffusion2gan.settings import LightningSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(LightningSettings, distillation.PairArguments):
    init: Path = Field(description="folder of the student to halve the steps of")


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.init)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    discriminator = EncoderDiscriminator.from_teacher(teacher.unet)
    teacher.drop_unet()  # student, previous network and discriminator have their own
    training = LightningTraining(student, teacher, pairs, loss, discriminator, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
