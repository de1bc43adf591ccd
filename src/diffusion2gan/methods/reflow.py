"""InstaFlow (Liu et al. 2024): the teacher's ODE is straightened by ReFlow, then distilled into one step.

Time t goes from 0, noise X₀ = z, to 1, data X₁ = x.
"""

import copy
from functools import cached_property

import torch
from diffusers import DDIMScheduler
from torch import nn

from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.methods.denoising import random_times
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, InstaFlowSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.student import MicroBatch

TIME = 0  # mixed into the seed of the random times


class StraightPaths:
    """The teacher's noisy latents as points Xₜ = t x̂ + (1 - t) ẑ on straight paths; nothing is learnt for it.  # ours

    A solution starts with z as a latent at the last timestep T, so that z = α_T x̂ + σ_T ε̂. A latent α x̂ + σ ε̂ is then
    α′ x̂ + σ′ z with α′ = α - σ α_T / σ_T and σ′ = σ / σ_T. Divided by its `scale` α′ + σ′, it is Xₜ with
    t = α′ / (α′ + σ′), and a DDIM step is a step of Euler. With a schedule that ends in pure noise, α_T = 0 and t is
    α / (α + σ). `times` has t of every timestep (T + 1,), 0 for the last one; the authors' network learns the time and
    the velocity anew.
    """

    def __init__(self, scheduler: DDIMScheduler):
        alpha_bar = scheduler.alphas_cumprod.double()
        alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        signal, noise = alpha - sigma * alpha[-1] / sigma[-1], sigma / sigma[-1]
        self.scale, self.times = signal + noise, signal / (signal + noise)

    def nearest(self, times: torch.Tensor) -> torch.Tensor:
        """The timesteps (N,) whose t is nearest to `times` (N,)."""
        return (times.double()[:, None] - self.times).abs().argmin(1)

    def between(self, z: torch.Tensor, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Xₜ = t x + (1 - t) z (N, C, h, w) at timesteps (N,)."""
        times = _column(self.times[timesteps], z)
        return times * x + (1 - times) * z

    def velocity(
        self, denoiser: nn.Module, x: torch.Tensor, timesteps: torch.Tensor, conditions: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """v = x̂ - ẑ = (x̂ - Xₜ) / (1 - t) (N, C, h, w) at Xₜ, where `denoiser`, a `Generator`, estimates x̂."""
        scale, times = (_column(each[timesteps], x) for each in (self.scale, self.times))
        estimated = denoiser(scale * x, timesteps=timesteps.to(x.device), **conditions)
        return (estimated - x) / (1 - times)

    def solve(
        self, denoiser: nn.Module, z: torch.Tensor, steps: int, conditions: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """X₁ (N, C, h, w) after `steps` of Euler's method from X₀ = z; a single step is the one of G(z, c)."""
        timesteps, x = self.nearest(torch.arange(steps) / steps), z
        times = [*self.times[timesteps].tolist(), 1.0]
        for timestep, now, then in zip(timesteps, times, times[1:], strict=False):
            x = x + (then - now) * self.velocity(denoiser, x, timestep.expand(len(x)), conditions)
        return x


class ReflowTraining(RegressionTraining):
    """ReFlow: fit the velocity to X₁ - X₀ of the pairs, whose paths then cross no more.

    Guidance is in the pairs. The network is a student of one step, too: x = z + v(z, 0 | c) is G(z, c).
    """

    @cached_property
    def paths(self) -> StraightPaths:
        return StraightPaths(self.modules["student"].scheduler)

    def loss_of(self, batch: MicroBatch) -> torch.Tensor:
        """d(v(Xₜ, t | c), X₁ - X₀) with t ~ U[0, 1] (Liu et al. 2024), rounded to a timestep's."""
        paths = self.paths
        timesteps = paths.nearest(random_times(batch, TIME))
        x = paths.between(batch.z, batch.x, timesteps)
        velocity = paths.velocity(self.student, x, timesteps, batch.conditions)
        return self.loss(velocity, batch.x - batch.z, batch.part)


class InstaFlowTraining(RegressionTraining):
    """Fit one step G(z, c) to the end of the rectified flow's solution from the same z (Liu et al. 2024).

    `student` starts as the rectified flow, which is kept frozen and solved in each step: the second set of pairs is
    not stored. It has no guidance, because its own pairs had it.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss,
        settings: InstaFlowSettings,
        fitting: Fitting | None = None,
    ):
        flow = copy.deepcopy(student)
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.flow, self.paths = self.frozen(flow), StraightPaths(student.scheduler)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step; those of the rectified flow count as the teacher's."""
        n = self.settings.batch_size
        return Evaluations(teacher_forward=self.settings.flow_steps * n, student_forward=n, student_backward=n)

    def loss_of(self, batch: MicroBatch) -> torch.Tensor:
        """d(z + v(z, 0 | c), ODE(z)) (Liu et al. 2024)."""
        with torch.no_grad(), self.full_precision():
            solved = self.paths.solve(self.flow, batch.z, self.settings.flow_steps, batch.conditions)
        return self.loss(self.generate(batch), solved, batch.part)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Values (N,) as (N, 1, 1, 1), with the device and the dtype of `like`."""
    return values.view(-1, 1, 1, 1).to(like)
