"""UFOGen (Xu et al. 2024): a diffusion GAN whose discriminator compares latents with less noise than G started from."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from diffusion2gan.discriminators.unet import TIMESTEP, DiffusionDiscriminator
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.losses.adversarial import discriminator_loss, generator_loss
from diffusion2gan.methods.denoising import NoiseLevels, random_levels, random_noise
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, UFOGenSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distributed
from diffusion2gan.training.student import MAX_NORM, MicroBatch, StudentTraining, adamw

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
        numbers = self.discriminator_step(batches)
        numbers |= self.generator_step(batches)
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)

    def discriminator_step(self, batches: Sequence[MicroBatch]) -> dict[str, torch.Tensor]:
        """Improve D once: real xₛ against generated x̂ₛ (Xu et al. 2024, Sec. 4). Returns its loss."""
        optimizer, mean_loss = self.optimizers["discriminator"], 0.0

        optimizer.zero_grad()
        for batch in batches:
            given = self.diffused(batch)
            with torch.no_grad():  # G's graph would not fit beside D's
                generated = self.renoised(batch, self.estimate(batch, given), given, FAKE)
            real = self.renoised(batch, batch.x, given, REAL)
            with distributed.no_sync(self.discriminator, batch is not batches[-1]):
                with self.precision():
                    logits = [self.score(self.discriminator, batch, each, given) for each in (real, generated)]
                    loss = discriminator_loss(*logits) / len(batches)
                loss.backward()
            mean_loss += loss.detach()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), MAX_NORM)
        optimizer.step()
        return {"discriminator_loss": mean_loss}

    def generator_step(self, batches: Sequence[MicroBatch]) -> dict[str, torch.Tensor]:
        """Improve G once on D's score of x̂ₛ and on λ d(x̂₀, x) (Xu et al. 2024, Sec. 4). Returns its losses."""
        optimizer, numbers = self.optimizers["student"], Counter()
        # not wrapped: its weights get no gradient, so there is nothing to average
        discriminator = self.modules["discriminator"].requires_grad_(False)

        optimizer.zero_grad()
        for batch in batches:
            given = self.diffused(batch)
            with distributed.no_sync(self.student, batch is not batches[-1]):
                x = self.estimate(batch, given)
                generated = self.renoised(batch, x, given, FAKE)
                with self.precision():
                    reconstruction_loss = self.loss(x, batch.x, batch.part)
                    gan_loss = generator_loss(self.score(discriminator, batch, generated, given))
                loss = gan_loss + self.settings.lambda_reconstruction * reconstruction_loss
                (loss / len(batches)).backward()
            losses = {"loss": loss, "reconstruction_loss": reconstruction_loss, "gan_loss": gan_loss}
            numbers.update({name: each.detach() / len(batches) for name, each in losses.items()})
        nn.utils.clip_grad_norm_(self.student.parameters(), MAX_NORM)
        optimizer.step()

        discriminator.requires_grad_(True)
        return dict(numbers)

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
        timesteps = torch.cat([self.levels.timesteps, torch.tensor([TIMESTEP])])[given.next_levels].to(self.device)
        return discriminator(latents, batch.z, timesteps=timesteps, **batch.conditions)
