"""Latent Consistency Models (LCM, Luo et al. 2023): every point of a solution of the teacher's ODE maps to its end."""

import copy

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.methods.denoising import Denoiser, NoiseLevels, ddim_step, guided, random_levels, random_noise
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, LCMSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.student import MicroBatch


class LCMTraining(RegressionTraining):
    """Make the student consistent: fit f(xₜ, t) to f⁻(x̂ₛ, s), where x̂ₛ is one guided DDIM step of the teacher from xₜ.

    The latents x of the pairs are the data. f⁻ is a moving average of the student with decay μ =
    `settings.target_decay`. f is the estimate x̂₀ of the U-Net: LCM's own parametrisation differs from it by less than
    1e-4 unless t is below 10, and no step starts there.                                                         # ours
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
        self.real = Denoiser(teacher.unet, student.scheduler).to(self.device)
        self.target = copy.deepcopy(student).to(self.device).requires_grad_(False)
        self.modules["target"] = self.target
        self.levels = NoiseLevels(student.scheduler, settings.noise_levels)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step; guidance takes two of the teacher."""
        n, solved = self.settings.batch_size, 2 if self.settings.guidance > 1 else 1
        return Evaluations(teacher_forward=solved * n, student_forward=n, student_backward=n, target_forward=n)

    def step(self, step: int) -> dict[str, float]:
        numbers = super().step(step)
        target, student = (list(self.modules[name].parameters()) for name in ("target", "student"))
        with torch.no_grad():
            torch._foreach_lerp_(target, student, 1 - self.settings.target_decay)  # θ⁻ ← μ θ⁻ + (1 - μ) θ
        return numbers

    def loss_of(self, batch: MicroBatch) -> torch.Tensor:
        """d(f(xₜ, t), f⁻(x̂ₛ, s)) for neighbouring timesteps s < t (Luo et al. 2023, Eq. 8)."""
        generator = torch.Generator().manual_seed(batch.part.seed)
        levels = random_levels(batch, self.settings.noise_levels, generator)
        noisy = self.levels.noised(batch.x, random_noise(batch, generator), levels)
        timesteps = self.levels.timesteps[levels].to(self.device)
        estimated = self.student(noisy, timesteps=timesteps, **batch.conditions)
        return self.loss(estimated, self.end(batch, noisy, levels), batch.part)

    @torch.no_grad()
    def end(self, batch: MicroBatch, noisy: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """f⁻(x̂ₛ, s) (N, C, h, w) for noisy latents at levels (N,). A step that reaches x₀ ends there: f(x, 0) = x."""
        timesteps, unconditional = self.levels.timesteps, self.teacher.unconditional
        now, guidance = timesteps[levels].to(self.device), self.settings.guidance
        x0 = guided(self.real, noisy, now, batch.conditions, unconditional, guidance)
        nearer = ddim_step(noisy, x0, *(self.levels.alpha_bar(each, x0) for each in (levels, levels + 1)))
        reached = levels + 1 == len(timesteps)
        after = timesteps[(levels + 1).clamp(max=len(timesteps) - 1)].to(self.device)
        ends = self.target(nearer, timesteps=after, **batch.conditions)
        return torch.where(reached.view(-1, 1, 1, 1).to(self.device), nearer, ends)
