"""Adversarial Diffusion Distillation (ADD, Sauer et al. 2023): a GAN on frozen features, and the teacher's estimate."""

import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from diffusion2gan.discriminators.gigagan import Predictor
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.losses.adversarial import accuracy
from diffusion2gan.methods.denoising import NoiseLevels, guided, random_levels, random_noise
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import ADDSettings, Fitting
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.student import Losses, MicroBatch, StudentTraining, adamw, only_shown

LEVEL, NOISE, TIMESTEP, FRESH = range(4)  # mixed into the seed, one for each random draw


class FeatureHeads(nn.Module):
    """D: a head on each tap of a frozen network, conditioned on the text like GigaGAN's predictors.        # ours"""

    def __init__(self, widths: Sequence[int], text_width: int):
        super().__init__()
        self.heads = nn.ModuleList(Predictor(width, text_width) for width in widths)

    def forward(self, taps: Sequence[torch.Tensor], text_embeddings: torch.Tensor) -> list[torch.Tensor]:
        """Logits (N, 1, h, w) of each tap (N, C, h, w); `text_embeddings` (N, T, D) are averaged over the tokens."""
        text = text_embeddings.mean(1)
        return [head(tap, text) for head, tap in zip(self.heads, taps, strict=True)]


def hinge_loss(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Σₖ E max(0, 1 - Dₖ(x)) + E max(0, 1 + Dₖ(x̂)) (Sauer et al. 2023, Eq. 3), a scalar."""
    return sum(F.relu(1 - one).mean() + F.relu(1 + other).mean() for one, other in zip(real, fake, strict=True))


def feature_r1(logits: Sequence[torch.Tensor], taps: Sequence[torch.Tensor]) -> torch.Tensor:
    """½ E Σₖ ‖∇ Dₖ‖² with respect to the taps (N, C, h, w) of real latents, a scalar that can be differentiated."""
    gradients = torch.autograd.grad(sum(each.sum() for each in logits), taps, create_graph=True)
    return sum(gradient.square().sum() for gradient in gradients) / (2 * len(taps[0]))


class ADDTraining(StudentTraining):
    """Each step improves D on features of real and generated latents, then G on D and on the teacher's estimate.

    G estimates x̂ of latents with noise of one of a few levels, the first of which is pure noise. The teacher estimates
    the latent behind x̂ with new noise. The latents x of the pairs are the data. `features` is the network whose taps D
    sees, the VGG of LatentLPIPS; the authors have DINOv2 in pixels.                                        # ours
    With `shard`, D stays whole: it is small, and FSDP has no second derivatives for R1.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss,
        features: VGG,
        discriminator: FeatureHeads,
        settings: ADDSettings,
        fitting: Fitting | None = None,
    ):
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.denoiser = Generator(teacher.unet, student.scheduler)
        self.features = self.frozen(features)
        self.discriminator = self.add("discriminator", discriminator, whole=True)
        self.optimizers["discriminator"] = adamw(discriminator, settings.d_learning_rate)
        self.levels = NoiseLevels(student.scheduler, settings.noise_levels)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step. Those of the features and of the heads, which are small, are left out."""
        n, estimates = self.settings.batch_size, 2 if self.settings.guidance > 1 else 1
        return Evaluations(teacher_forward=estimates * n, student_forward=2 * n, student_backward=n)

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)
        numbers = self.improve("discriminator", self.discriminator, batches, self.discriminator_losses)
        with self.fixed("discriminator"):
            numbers |= self.improve("student", self.student, batches, self.generator_losses)
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)

    def discriminator_losses(self, batch: MicroBatch) -> Losses:
        """D's hinge loss and R1 (Sauer et al. 2023, Eq. 3)."""
        with torch.no_grad():
            real, fake = self.taps(batch.x), self.taps(self.generated(batch))
        for tap in real:
            tap.requires_grad_()
        text, count = batch.conditions["text_embeddings"], len(batch.x)
        both = [torch.cat(pair) for pair in zip(real, fake, strict=True)]  # one call, as DDP expects
        logits = self.discriminator(both, torch.cat([text, text]))
        real_logits, fake_logits = [each[:count] for each in logits], [each[count:] for each in logits]
        r1 = self.settings.r1_gamma_features * feature_r1(real_logits, real)
        losses = {"discriminator_loss": (1.0, hinge_loss(real_logits, fake_logits)), "r1": (1.0, r1)}
        return losses | only_shown(accuracy(real_logits, fake_logits))

    def generator_losses(self, batch: MicroBatch) -> Losses:
        """G's losses: λ c(t) d(x̂, x̂_φ), and -w Σ Dₖ (Sauer et al. 2023, Eq. 1, 2 and 4)."""
        x, settings = self.generated(batch), self.settings
        logits = self.modules["discriminator"](self.taps(x), batch.conditions["text_embeddings"])
        gan_loss = -sum(each.mean() for each in logits)
        estimated, weight = self.estimate(batch, x.detach())
        with self.precision():
            distillation_loss = self.loss(weight.sqrt() * x, weight.sqrt() * estimated, batch.part)
        return {
            "distillation_loss": (settings.lambda_distillation, distillation_loss),
            "gan_loss": (settings.lambda_gan, gan_loss),
        }

    def taps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The features (N, C, h, w) of latents; at each position a vector of length √C.                  # ours"""
        weights = next(self.features.parameters())
        return [F.normalize(tap, dim=1) * tap.shape[1] ** 0.5 for tap in self.features.features(x.to(weights.dtype))]

    def generated(self, batch: MicroBatch) -> torch.Tensor:
        """G's estimate x̂ (N, C, h, w) of the data with noise of a random level."""
        levels = random_levels(batch, self.settings.noise_levels, LEVEL)
        noisy = self.levels.noised(batch.x, random_noise(batch, NOISE), levels)
        with self.precision():
            return self.student(noisy, timesteps=self.levels.timesteps[levels].to(self.device), **batch.conditions)

    @torch.no_grad()
    def estimate(self, batch: MicroBatch, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's guided estimate (N, C, h, w) of the latents x with noise at any timestep t, and c(t) = αₜ."""
        count = self.denoiser.scheduler.config.num_train_timesteps
        timesteps = random_levels(batch, count, TIMESTEP).to(self.device)
        noisy = self.denoiser.scheduler.add_noise(x, random_noise(batch, FRESH).to(x), timesteps)
        unconditional, guidance = self.teacher.unconditional, self.settings.guidance
        with self.full_precision():
            estimated = guided(self.denoiser, noisy, timesteps, batch.conditions, unconditional, guidance)
        return estimated, self.denoiser.alpha_bar_at(timesteps).to(x).sqrt()
