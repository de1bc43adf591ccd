"""Distil a teacher by Adversarial Diffusion Distillation (Sauer et al. 2023, ADD-M of Table 4)."""

import torch

from diffusion2gan.generator import load_student
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.methods.add import ADDTraining, FeatureHeads
from diffusion2gan.settings import ADDSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed


class Arguments(ADDSettings, distillation.PairArguments):
    pass


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    features = LPIPS.load(args.lpips).trunk
    discriminator = FeatureHeads(features.widths, teacher.unet.config.cross_attention_dim)
    training = ADDTraining(student, teacher, pairs, loss, features, discriminator, settings=args, fitting=args)
    distillation.run(training, args)


if __name__ == "__main__":
    cli.run(main)
