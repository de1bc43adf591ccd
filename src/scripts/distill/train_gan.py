"""Train a regressed student further as a conditional GAN (Sec. 3.3, Table 2)."""

from pathlib import Path

import torch
from pydantic import Field

from diffusion2gan.generator import load_student
from diffusion2gan.settings import GANSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.adversarial import AdversarialTraining, discriminator_of


class Arguments(GANSettings, distillation.PairArguments):
    init: Path = Field(description="folder of the student to start from")


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.init)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    discriminator = discriminator_of(args, teacher)
    teacher.drop_unet()  # student and discriminator have their own
    training = AdversarialTraining(student, teacher, pairs, loss, discriminator, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
