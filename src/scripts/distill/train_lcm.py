"""Distil a teacher as a latent consistency model (Luo et al. 2023)."""

import torch

from diffusion2gan.generator import load_student
from diffusion2gan.methods.lcm import LCMTraining
from diffusion2gan.settings import LCMSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(LCMSettings, distillation.PairArguments):
    pass


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    training = LCMTraining(student, teacher, pairs, loss, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
