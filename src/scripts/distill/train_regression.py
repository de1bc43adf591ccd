"""Distil a teacher into a one-step student by a regression loss alone (Sec. 3.1 and 3.2, Table 1)."""

import torch

from diffusion2gan.generator import load_student
from diffusion2gan.settings import RegressionSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import load_teacher
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.regression import RegressionTraining


class Arguments(RegressionSettings, distillation.PairArguments):
    pass


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = load_teacher(args.teacher, distributed.device())
    teacher.drop_unet()  # the student has its own
    student = load_student(args.teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    training = RegressionTraining(student, teacher, pairs, loss, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
