"""Distil a teacher by progressive distillation (Salimans & Ho 2022; Meng et al. 2023, Table 4)."""

from pathlib import Path

import torch
from pydantic import Field

from diffusion2gan.generator import load_student
from diffusion2gan.methods.progressive import ProgressiveTraining
from diffusion2gan.settings import ProgressiveSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(ProgressiveSettings, distillation.PairArguments):
    init: Path | None = Field(None, description="folder of the student to halve the steps of; none: the teacher")


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.init or args.teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    teacher.drop_unet()  # the student and the network that it learns from have their own
    training = ProgressiveTraining(student, teacher, pairs, loss, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
