"""Latent Consistency Models (LCM, Luo et al. 2023): every point of a solution of the teacher's ODE maps to its end."""

import copy

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.methods.denoising import NoiseLevels, ddim_step, guided, random_levels, random_noise
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, LCMSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.student import MicroBatch

LEVEL, NOISE = range(2)  # mixed into the seed, one for each random draw


class LCMTraining(RegressionTraining):
    """Make the student consistent: fit f(xₜ, t) to f⁻(x̂ₛ, s), where x̂ₛ is one guided DDIM step of the teacher from xₜ.

    The latents x of the pairs are the data. f⁻ is a moving average of the student with decay μ =
    `settings.target_decay`. f is the estimate x̂₀ of the U-Net: LCM's own parametrisation differs from it by less than
    1e-4 unless t is below 10, where with at most 90 noise levels no step starts.                                # ours
    Raises UserError if `shard` is set.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss,
        settings: LCMSettings,
        fitting: Fitting | None = None,
    ):
        if fitting and fitting.shard:
            raise UserError("a latent consistency model keeps whole networks: leave out --shard")
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.denoiser = Generator(teacher.unet, student.scheduler)
        self.target = self.frozen(copy.deepcopy(student))
        self.modules["target"] = self.target
        self.levels = NoiseLevels(student.scheduler, settings.noise_levels)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step; guidance takes two of the teacher."""
        n, solved = self.settings.batch_size, 2 if self.settings.guidance > 1 else 1
        return Evaluations(teacher_forward=solved * n, student_forward=n, student_backward=n, target_forward=n)

    def step(self, step: int) -> dict[str, float]:
        numbers = super().step(step)
        self.average_target()
        return numbers

    def loss_of(self, batch: MicroBatch) -> torch.Tensor:
        """d(f(xₜ, t), f⁻(x̂ₛ, s)) for neighbouring timesteps s < t (Luo et al. 2023, Sec. 4)."""
        levels = random_levels(batch, self.settings.noise_levels, LEVEL)
        noisy = self.levels.noised(batch.x, random_noise(batch, NOISE), levels)
        target = self.consistency_target(batch, noisy, levels)
        timesteps = self.levels.timesteps[levels].to(self.device)
        return self.loss(self.student(noisy, timesteps=timesteps, **batch.conditions), target, batch.part)

    @torch.no_grad()
    def consistency_target(self, batch: MicroBatch, noisy: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """f⁻(x̂ₛ, s) (N, C, h, w) for noisy latents at levels (N,). A step that reaches x₀ ends there: f(x, 0) = x."""
        timesteps, after = self.levels.timesteps, levels + 1
        now, guidance = timesteps[levels].to(self.device), self.settings.guidance
        reached = (after == len(timesteps)).view(-1, 1, 1, 1).to(self.device)
        then = timesteps[after.clamp(max=len(timesteps) - 1)].to(self.device)
        with self.full_precision():
            x0 = guided(self.denoiser, noisy, now, batch.conditions, self.teacher.unconditional, guidance)
            solved = ddim_step(noisy, x0, *(self.levels.alpha_bar(each, x0) for each in (levels, after)))
            return torch.where(reached, solved, self.target(solved, timesteps=then, **batch.conditions))
