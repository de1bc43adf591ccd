"""Train a regressed student further as a conditional GAN (Sec. 3.3, Table 2)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from diffusion2gan import cli
from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.mix_and_match import Fractions
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.losses import regression_loss
from diffusion2gan.pairs import PairDataset
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.adversarial import AdversarialTraining, Adversary
from diffusion2gan.training.loop import Schedule, train


@dataclass
class Arguments:
    teacher: str
    pairs: Path
    init: Path
    loss: str
    iterations: int
    batch_size: int
    checkpoints: Path
    out: Path
    history: Path
    lpips: Path | None = None
    learning_rate: float = 1e-5  # ours
    warmup: int = 0
    ema_decay: float = 0.999  # ours
    ensemble: str = "bgco"
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
    autocast: bool = False
    seed: int = 0


def main(args: Arguments):
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = Teacher(args.teacher, device)
    training = AdversarialTraining(
        discriminator=discriminator(args, teacher),
        adversary=adversary(args),
        student=Generator.from_teacher(args.init),
        teacher=teacher,
        pairs=PairDataset(args.pairs),
        loss=regression_loss(args.loss, args.lpips, teacher.decode, args.ensemble, device),
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
        autocast=args.autocast,
    )
    of_the_loop = {"iterations", "warmup", "ema_decay", "seed", "checkpoints", "out", "history"}
    settings = cli.settings_of(args, sorted(vars(args).keys() - of_the_loop))
    schedule = Schedule(args.iterations, args.warmup)
    history = train(training, schedule, args.checkpoints, settings, args.seed, args.ema_decay)

    training.student.save(args.out, args.teacher)
    history.to_csv(args.history, index=False)


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
    width = min(128, teacher.unet.config.block_out_channels[0])  # ours: no wider than the teacher
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
