"""Progressive distillation (Salimans & Ho 2022; with guidance, Meng et al. 2023): students with ever fewer steps.

A chain of runs. The first trains a network to predict the guided estimate. Each later run trains one DDIM step to match
two steps of the previous run.
"""

import copy

import torch

from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.methods.denoising import NoiseLevels, ddim_step, guided, random_levels, random_noise
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, ProgressiveSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.student import MicroBatch

LEVEL, NOISE = range(2)  # mixed into the seed, one for each random draw


def progressive_target(
    noisy: torch.Tensor, solved: torch.Tensor, alpha_bar: torch.Tensor, alpha_bar_next: torch.Tensor
) -> torch.Tensor:
    """The x̃ (N, C, h, w) with which one DDIM step from `noisy` ends at `solved` (Salimans & Ho 2022, App. G).

    `alpha_bar` and `alpha_bar_next` are ᾱ before and after this step, (N, 1, 1, 1).
    """
    ratio = ((1 - alpha_bar_next) / (1 - alpha_bar)).sqrt()
    return (solved - ratio * noisy) / (alpha_bar_next.sqrt() - ratio * alpha_bar.sqrt())


class ProgressiveTraining(RegressionTraining):
    """Fit x̂ of the student to x̃: each of its steps ends where `substeps` DDIM steps of the previous network end.

    The latents x of the pairs are the data. `student` starts as the previous network. With `substeps` 1 and guidance it
    learns the guided estimate itself.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss,
        settings: ProgressiveSettings,
        fitting: Fitting | None = None,
    ):
        previous = copy.deepcopy(student)
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.previous = self.frozen(previous)
        self.levels = NoiseLevels(student.scheduler, settings.steps * settings.substeps)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step; guidance takes two for each substep."""
        n, settings = self.settings.batch_size, self.settings
        solved = n * settings.substeps * (2 if settings.guidance > 1 else 1)
        return Evaluations(teacher_forward=solved, student_forward=n, student_backward=n)

    def loss_of(self, batch: MicroBatch) -> torch.Tensor:
        """w |x̂ - x̃|² with w = max(1, ᾱ / (1 - ᾱ)), the truncated SNR weighting (Salimans & Ho 2022, Sec. 4)."""
        levels = self.settings.substeps * random_levels(batch, self.settings.steps, LEVEL)
        noisy = self.levels.noised(batch.x, random_noise(batch, NOISE), levels)
        target, alpha_bar = self.target(batch, noisy, levels), self.levels.alpha_bar(levels, noisy)
        timesteps = self.levels.timesteps[levels].to(self.device)
        estimated = self.student(noisy, timesteps=timesteps, **batch.conditions)
        weight = (alpha_bar / (1 - alpha_bar)).clamp(min=1).sqrt()
        return self.loss(weight * estimated, weight * target, batch.part)

    @torch.no_grad()
    def target(self, batch: MicroBatch, noisy: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """x̃ (N, C, h, w) after `substeps` DDIM steps of the previous network, from noisy latents at levels (N,)."""
        solved = self.solved(batch, noisy, levels, self.settings.guidance)
        first, last = (self.levels.alpha_bar(each, noisy) for each in (levels, levels + self.settings.substeps))
        return progressive_target(noisy, solved, first, last)

    @torch.no_grad()
    def solved(self, batch: MicroBatch, noisy: torch.Tensor, levels: torch.Tensor, guidance: float) -> torch.Tensor:
        """The latents (N, C, h, w) after `substeps` DDIM steps of the previous network from levels (N,)."""
        with self.full_precision():
            for level in (levels + step for step in range(self.settings.substeps)):
                timesteps, unconditional = self.levels.timesteps[level].to(self.device), self.teacher.unconditional
                x0 = guided(self.previous, noisy, timesteps, batch.conditions, unconditional, guidance)
                noisy = ddim_step(noisy, x0, *(self.levels.alpha_bar(each, x0) for each in (level, level + 1)))
        return noisy

    def generate(self, batch: MicroBatch) -> torch.Tensor:
        """Latents (N, C, h, w) of all steps of the student, for the errors and the sample grids."""
        x, substeps = batch.z, self.settings.substeps
        alphas_cumprod = self.levels.alphas_cumprod[::substeps].view(-1, 1, 1, 1, 1).to(x)
        for step, timestep in enumerate(self.levels.timesteps[::substeps].to(self.device)):
            with self.precision():
                estimated = self.student(x, timesteps=timestep.expand(len(x)), **batch.conditions)
            x = ddim_step(x, estimated, *alphas_cumprod[step : step + 2])
        return x
