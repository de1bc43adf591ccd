"""Distil a teacher by DMD2 (Yin et al. 2024b)."""

import torch

from diffusion2gan.generator import load_student
from diffusion2gan.methods.dmd2 import DMD2Training
from diffusion2gan.settings import DMD2Settings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(DMD2Settings, distillation.PairArguments):
    pass


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    training = DMD2Training(student, teacher, pairs, loss, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
