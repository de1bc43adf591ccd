"""UFOGen (Xu et al. 2024): a diffusion GAN whose discriminator compares latents with less noise than G started from."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.losses.adversarial import accuracy, discriminator_loss, generator_loss
from diffusion2gan.methods.denoising import NoiseLevels, random_levels, random_noise
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, UFOGenSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.student import Losses, MicroBatch, StudentTraining, adamw, only_shown

LEVEL, NOISE, REAL, FAKE = range(4)  # mixed into the seed, one for each random draw


@dataclass
class Diffused:
    """Noisy latents xₜ (N, C, h, w) for G, their timesteps (N,), and the next level s of D's inputs (N,)."""

    latents: torch.Tensor
    timesteps: torch.Tensor
    next_levels: torch.Tensor


class UFOGenTraining(StudentTraining):
    """Each step improves D on real and generated latents with noise of level s, then G on D and on a reconstruction.

    G estimates x̂₀ of a noisy latent xₜ. D compares xₛ, the real latent with noise, to x̂ₛ = αₛ x̂₀ + σₛ ε with **fresh**
    noise ε. A sample of the posterior of xₛ given xₜ and x̂₀ would be another method (Xiao et al. 2022). The latents x
    of the pairs are the data.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss,
        discriminator: DiffusionDiscriminator,
        settings: UFOGenSettings,
        fitting: Fitting | None = None,
    ):
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.discriminator = self.add("discriminator", discriminator)
        self.optimizers["discriminator"] = adamw(discriminator, settings.d_learning_rate)
        self.levels = NoiseLevels(student.scheduler, settings.noise_levels)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step: G runs twice on each sample, for D and for its own gradient."""
        n = self.settings.batch_size
        return Evaluations(
            student_forward=2 * n, student_backward=n, discriminator_forward=3 * n, discriminator_backward=3 * n
        )

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)
        numbers = self.improve("discriminator", self.discriminator, batches, self.discriminator_losses)
        with self.fixed("discriminator"):
            numbers |= self.improve("student", self.student, batches, self.generator_losses)
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)

    def discriminator_losses(self, batch: MicroBatch) -> Losses:
        """D's loss: real xₛ against generated x̂ₛ (Xu et al. 2024, Sec. 4)."""
        given = self.diffused(batch)
        with torch.no_grad():  # G's graph would not fit beside D's
            generated = self.renoised(batch, self.estimate(batch, given), given, FAKE)
        real = self.renoised(batch, batch.x, given, REAL)
        with self.precision():
            logits = [self.score(self.discriminator, batch, each, given) for each in (real, generated)]
            losses = {"discriminator_loss": (1.0, discriminator_loss(*logits))}
        return losses | only_shown(accuracy(*logits))

    def generator_losses(self, batch: MicroBatch) -> Losses:
        """G's losses: λ d(x̂₀, x), and D's score of x̂ₛ (Xu et al. 2024, Sec. 4)."""
        given = self.diffused(batch)
        x = self.estimate(batch, given)
        generated = self.renoised(batch, x, given, FAKE)
        with self.precision():
            reconstruction_loss = self.loss(x, batch.x, batch.part)
            gan_loss = generator_loss(self.score(self.modules["discriminator"], batch, generated, given))
        weight = self.settings.lambda_reconstruction
        return {"reconstruction_loss": (weight, reconstruction_loss), "gan_loss": (1.0, gan_loss)}

    def diffused(self, batch: MicroBatch) -> Diffused:
        """What G starts from: the data with noise of a random level, the first of which is pure noise."""
        levels = random_levels(batch, self.settings.noise_levels, LEVEL)
        noisy = self.levels.noised(batch.x, random_noise(batch, NOISE), levels)
        return Diffused(noisy, self.levels.timesteps[levels].to(self.device), levels + 1)

    def estimate(self, batch: MicroBatch, given: Diffused) -> torch.Tensor:
        """G's estimate x̂₀ (N, C, h, w)."""
        with self.precision():
            return self.student(given.latents, timesteps=given.timesteps, **batch.conditions)

    def renoised(self, batch: MicroBatch, x: torch.Tensor, given: Diffused, number: int) -> torch.Tensor:
        """√ᾱₛ x + √(1 - ᾱₛ) ε (N, C, h, w) with fresh noise, drawn by its `number`; x itself at the last level."""
        return self.levels.noised(x, random_noise(batch, number).to(x), given.next_levels)

    def score(
        self, discriminator: nn.Module, batch: MicroBatch, latents: torch.Tensor, given: Diffused
    ) -> list[torch.Tensor]:
        """D's logit maps (N, 1, h', w') of latents (N, C, h, w) with noise of level s, given s."""
        timesteps = self.levels.seen[given.next_levels].to(self.device)
        return discriminator(latents, batch.z, timesteps=timesteps, **batch.conditions)
