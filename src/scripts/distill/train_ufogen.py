"""Distil a teacher as UFOGen, a diffusion GAN (Xu et al. 2024, Tables 3 and 4)."""

import torch

from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import load_student
from diffusion2gan.methods.ufogen import UFOGenTraining
from diffusion2gan.settings import UFOGenSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(UFOGenSettings, distillation.PairArguments):
    pass


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    discriminator = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=False, multi_scale=False)
    teacher.drop_unet()  # student and discriminator have their own
    training = UFOGenTraining(student, teacher, pairs, loss, discriminator, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
