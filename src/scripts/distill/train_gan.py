"""Train a regressed student further as a conditional GAN (Sec. 3.3, Table 2)."""

from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import load_student
from diffusion2gan.settings import GANSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.adversarial import AdversarialTraining


class Arguments(GANSettings, distillation.PairArguments):
    init: Path = Field(description="folder of the student to start from")


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.init)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    discriminator = discriminator_of(args, teacher)
    training = AdversarialTraining(student, teacher, pairs, loss, discriminator, settings=args, fitting=args)
    distillation.run(training, args)


def discriminator_of(settings: GANSettings, teacher: Teacher) -> nn.Module:
    """The discriminator of a row of Table 2."""
    if settings.discriminator == "diffusion":
        return DiffusionDiscriminator.from_teacher(teacher.unet, settings.z_conditioning, settings.multi_scale)
    width = min(128, teacher.unet.config.block_out_channels[0] // 2)  # ours: narrower than the teacher
    return GigaGANDiscriminator(teacher.latent_shape, teacher.unet.config.cross_attention_dim, width)


if __name__ == "__main__":
    cli.run(main)
