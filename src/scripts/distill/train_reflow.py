"""Straighten a teacher's ODE by ReFlow, the first half of InstaFlow (Liu et al. 2024)."""

import torch

from diffusion2gan.generator import load_student
from diffusion2gan.methods.reflow import ReflowTraining
from diffusion2gan.settings import ReflowSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(ReflowSettings, distillation.PairArguments):
    pass


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    teacher.drop_unet()  # the student has its own
    distillation.run(ReflowTraining(student, teacher, pairs, loss, settings=args, fitting=args), args)


if __name__ == "__main__":
    cli.run(main)
