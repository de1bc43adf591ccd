"""SDXL-Lightning (Lin et al. 2024): progressive distillation with a discriminator in place of the squared error."""

import time
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from diffusion2gan.discriminators.unet import EncoderDiscriminator
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.losses.adversarial import accuracy, discriminator_loss, generator_loss
from diffusion2gan.methods.denoising import ddim_step, random_levels, random_noise
from diffusion2gan.methods.progressive import ProgressiveTraining
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, LightningSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.student import Losses, MicroBatch, adamw, only_shown

LEVEL, NOISE, RENOISED, REAL, FAKE = range(5)  # mixed into the seed, one for each random draw
RENOISED_TIMESTEPS = torch.tensor([10, 250, 500, 750])  # of clean latents before D sees them (Lin et al. 2024)
FEW = 2  # at most so many steps have them                                                  (Lin et al. 2024)


@dataclass
class Noisy:
    """Latents x_t (N, C, h, w) that a step starts from, the levels of its start (N,) and of its end (N,)."""

    latents: torch.Tensor
    levels: torch.Tensor
    ends: torch.Tensor


class LightningTraining(ProgressiveTraining):
    """Each step improves D on where steps from x_t end, then G, whose one step replaces `substeps` of the one before.

    In the first phase D sees x_t as well, so that the student follows the previous network. In the second it does not,
    and the student may leave the path where it cannot follow. The latents x of the pairs are the data.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss,
        discriminator: EncoderDiscriminator,
        settings: LightningSettings,
        fitting: Fitting | None = None,
    ):
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.discriminator = self.add("discriminator", discriminator)
        self.optimizers["discriminator"] = adamw(discriminator, settings.d_learning_rate)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step.

        D is the encoder of a U-Net. Its pass counts as one, with one latent or two.                            # ours
        """
        n = self.settings.batch_size
        return Evaluations(
            teacher_forward=self.settings.substeps * n,
            student_forward=2 * n,
            student_backward=n,
            discriminator_forward=3 * n,
            discriminator_backward=3 * n,
        )

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)
        conditional = step < self.settings.conditional_share * self.settings.iterations
        d_losses, g_losses = (
            partial(each, conditional=conditional) for each in (self.discriminator_losses, self.generator_losses)
        )
        numbers = self.improve("discriminator", self.discriminator, batches, d_losses)
        with self.fixed("discriminator"):
            numbers |= self.improve("student", self.student, batches, g_losses)
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)

    def discriminator_losses(self, batch: MicroBatch, conditional: bool) -> Losses:
        """D's loss: -log D(x_t, x_s) - log(1 - D(x_t, x̂_s)) (Lin et al. 2024)."""
        given = self.noisy(batch)
        with torch.no_grad():  # G's graph would not fit beside D's
            generated = self.stepped(batch, given)
        real = self.solved(batch, given.latents, given.levels, guidance=1.0)
        with self.precision():
            judged = (real, REAL), (generated, FAKE)
            logits = [self.score(self.discriminator, batch, given, *each, conditional) for each in judged]
            losses = {"discriminator_loss": (1.0, discriminator_loss(*logits))}
        return losses | only_shown(accuracy(*logits))

    def generator_losses(self, batch: MicroBatch, conditional: bool) -> Losses:
        """G's loss: -log D(x_t, x̂_s) (Lin et al. 2024)."""
        given = self.noisy(batch)
        generated = self.stepped(batch, given)
        with self.precision():
            logits = self.score(self.modules["discriminator"], batch, given, generated, FAKE, conditional)
            return {"loss": (1.0, generator_loss(logits))}

    def noisy(self, batch: MicroBatch) -> Noisy:
        """What a step starts from: the data with noise of a random level, the first of which is pure noise."""
        levels = self.settings.substeps * random_levels(batch, self.settings.steps, LEVEL)
        return Noisy(
            self.levels.noised(batch.x, random_noise(batch, NOISE), levels), levels, levels + self.settings.substeps
        )

    def stepped(self, batch: MicroBatch, given: Noisy) -> torch.Tensor:
        """x̂_s (N, C, h, w) after one DDIM step of the student."""
        timesteps = self.levels.timesteps[given.levels].to(self.device)
        with self.precision():
            estimated = self.student(given.latents, timesteps=timesteps, **batch.conditions)
        alphas = (self.levels.alpha_bar(each, given.latents) for each in (given.levels, given.ends))
        return ddim_step(given.latents, estimated, *alphas)

    def score(
        self,
        discriminator: nn.Module,
        batch: MicroBatch,
        given: Noisy,
        latents: torch.Tensor,
        number: int,
        conditional: bool,
    ) -> list[torch.Tensor]:
        """D's logits (N, 1, h', w') of latents x_s (N, C, h, w), with x_t if `conditional`.

        For students of few steps, D sees clean latents with noise of a random level, drawn by its `number`: their
        details would hide their structure from it.
        """
        seen = self.levels.seen[given.ends].to(self.device)
        if self.settings.steps <= FEW:
            clean = (given.ends == len(self.levels.timesteps)).to(self.device)
            drawn = RENOISED_TIMESTEPS[random_levels(batch, len(RENOISED_TIMESTEPS), RENOISED)].to(self.device)
            noisy = self.previous.scheduler.add_noise(latents, random_noise(batch, number).to(latents), drawn)
            latents, seen = torch.where(clean.view(-1, 1, 1, 1), noisy, latents), torch.where(clean, drawn, seen)
        origin = (given.latents, self.levels.seen[given.levels].to(self.device)) if conditional else None
        return discriminator(latents, seen, origin, **batch.conditions)
