"""Distil a rectified flow into one step: InstaFlow (Liu et al. 2024, Tables 3, 4 and 7)."""

from pathlib import Path

import torch
from pydantic import Field

from diffusion2gan.generator import load_student
from diffusion2gan.methods.reflow import InstaFlowTraining
from diffusion2gan.settings import InstaFlowSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(InstaFlowSettings, distillation.PairArguments):
    init: Path = Field(description="folder of the rectified flow")


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.init)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    teacher.drop_unet()  # the student and the rectified flow have their own
    distillation.run(InstaFlowTraining(student, teacher, pairs, loss, settings=args, fitting=args), args)


if __name__ == "__main__":
    cli.run(main)
