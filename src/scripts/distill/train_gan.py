"""Train a regressed student further as a conditional GAN (Sec. 3.3, Table 2)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.mix_and_match import Fractions
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.errors import UserError
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.adversarial import AdversarialTraining, Adversary


@dataclass(kw_only=True)
class Arguments(distillation.Arguments):
    init: Path
    discriminator: str = "diffusion"
    z_conditioning: bool = False
    r1: bool = False
    multi_scale: bool = False
    mix_and_match: bool = False
    lambda_gan: float = 0.1  # ours
    r1_gamma: float = 1.0  # ours
    r1_every: int = 16
    d_learning_rate: float = 1e-5  # ours
    mix_fraction_latent: float = 0.25  # ours
    mix_fraction_text: float = 0.25  # ours
    mix_fraction_noise: float = 0.25  # ours


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    regression = distillation.start(args, teacher, init=args.init)
    training = AdversarialTraining(discriminator(args, teacher), adversary(args), **regression)
    distillation.finish(training, args)


def discriminator(args: Arguments, teacher: Teacher) -> nn.Module:
    """The D of a row of Table 2."""
    if args.discriminator == "diffusion":
        return DiffusionDiscriminator.from_teacher(teacher.unet, args.z_conditioning, args.multi_scale)
    if args.discriminator != "gigagan":
        raise UserError(f"no discriminator '{args.discriminator}': use diffusion or gigagan")
    if args.z_conditioning or args.multi_scale:
        raise UserError(
            "the gigagan discriminator never sees z and is always multi-scale: "
            "leave --z_conditioning and --multi_scale to the diffusion discriminator"
        )
    width = min(128, teacher.unet.config.block_out_channels[0] // 2)  # ours: narrower than the teacher
    return GigaGANDiscriminator(teacher.latent_shape, teacher.unet.config.cross_attention_dim, width)


def adversary(args: Arguments) -> Adversary:
    """How D of that row is trained."""
    if args.mix_and_match and args.mix_fraction_noise and not args.z_conditioning:
        raise UserError(
            "a discriminator that does not see z cannot tell noise that was substituted: "
            "set --z_conditioning true or --mix_fraction_noise 0"
        )
    fractions = Fractions(args.mix_fraction_latent, args.mix_fraction_text, args.mix_fraction_noise)
    return Adversary(
        learning_rate=args.d_learning_rate,
        lambda_gan=args.lambda_gan,
        r1_gamma=args.r1_gamma if args.r1 else None,
        r1_every=args.r1_every,
        mix=fractions if args.mix_and_match else None,
        matching_aware=args.discriminator == "gigagan",
    )


if __name__ == "__main__":
    cli.run(main)
