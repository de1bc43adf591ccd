"""Distil a teacher into a one-step student with a regression loss alone (Sec. 3.1 and 3.2, Table 1)."""

import torch

from diffusion2gan.study import cli
from diffusion2gan.teacher import load_teacher
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.distillation import Arguments
from diffusion2gan.training.regression import RegressionTraining


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = load_teacher(args.teacher, distributed.device())
    training = RegressionTraining(**distillation.start(args, teacher, init=args.teacher))
    distillation.finish(training, args)


if __name__ == "__main__":
    cli.run(main)
