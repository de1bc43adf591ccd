"""Shared by several methods: guidance, a DDIM step, noise levels, and the random draws of a step."""

from fractions import Fraction

import torch
from diffusers import DDIMScheduler
from torch import nn

from diffusion2gan.discriminators.unet import TIMESTEP
from diffusion2gan.errors import UserError
from diffusion2gan.seeds import mix
from diffusion2gan.training.student import MicroBatch


def guided(
    denoiser: nn.Module,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    conditions: dict[str, torch.Tensor],
    unconditional: dict[str, torch.Tensor],
    guidance: float,
) -> torch.Tensor:
    """Classifier-free guidance: x̂(∅) + w (x̂(c) - x̂(∅)), both branches in one call; w = `guidance`, 1 for none.

    `denoiser` is a `Generator` that estimates the clean latents (N, C, h, w) of noisy ones at timesteps (N,).
    `conditions` are (N, …) by name, `unconditional` (1, …).
    """
    if guidance == 1:
        return denoiser(noisy, timesteps=timesteps, **conditions)
    both = {name: torch.cat([unconditional[name].expand_as(each), each]) for name, each in conditions.items()}
    pairs = torch.cat([noisy, noisy]), torch.cat([timesteps, timesteps])
    without, given = denoiser(pairs[0], timesteps=pairs[1], **both).chunk(2)
    return without + guidance * (given - without)


def ddim_step(
    noisy: torch.Tensor, estimated: torch.Tensor, alpha_bar: torch.Tensor, alpha_bar_next: torch.Tensor
) -> torch.Tensor:
    """A deterministic DDIM step (Song et al. 2021, Eq. 12) of noisy latents (N, C, h, w), given their estimated x₀.

    `alpha_bar` and `alpha_bar_next` are ᾱ before and after the step, (N, 1, 1, 1); 1 ends at x₀.
    """
    noise = (noisy - alpha_bar.sqrt() * estimated) / (1 - alpha_bar).sqrt()
    return alpha_bar_next.sqrt() * estimated + (1 - alpha_bar_next).sqrt() * noise


class NoiseLevels:
    """The noise levels of a sampler with `steps` trailing steps (Lin et al. 2024), from pure noise (0) to x₀ (`steps`).

    `timesteps` are those of the steps, (steps,). `alphas_cumprod` has ᾱ of each, then 1, (steps + 1,). `seen` are the
    timesteps that a discriminator is told: those of the steps, then that of a latent without noise, (steps + 1,).
    Raises UserError if there are more steps than training timesteps.
    """

    def __init__(self, scheduler: DDIMScheduler, steps: int):
        count = scheduler.config.num_train_timesteps
        if steps > count:
            raise UserError(f"{steps} steps are more than the {count} timesteps of the teacher: use fewer")
        self.timesteps = torch.tensor([round(Fraction(count * (steps - i), steps)) - 1 for i in range(steps)])
        self.alphas_cumprod = torch.cat([scheduler.alphas_cumprod[self.timesteps], torch.ones(1)])
        self.seen = torch.cat([self.timesteps, torch.tensor([TIMESTEP])])

    def alpha_bar(self, levels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """ᾱ of levels (N,), as (N, 1, 1, 1), with the device and the dtype of `like`."""
        return self.alphas_cumprod[levels].view(-1, 1, 1, 1).to(like)

    def noised(self, x: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """√ᾱ x + √(1 - ᾱ) ε (N, C, h, w) of latents x and noise ε at levels (N,). Level 0 is ε alone.

        Sampling starts from pure noise, while Stable Diffusion's last ᾱ would leave a trace of x in a training.
        """
        alpha_bar = self.alpha_bar(levels, x)
        noisy = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
        return torch.where((levels == 0).view(-1, 1, 1, 1).to(x.device), noise, noisy)


def random_noise(batch: MicroBatch, number: int) -> torch.Tensor:
    """Standard normal noise (N, C, h, w) for the rows of a micro-batch; draws with another `number` are independent.

    Each row of the whole batch has a seed of its own, so that no process draws the noise of another.
    """
    rows = range(batch.part.whole)[batch.part.rows]
    generators = (torch.Generator().manual_seed(mix(batch.part.seed, number, row)) for row in rows)
    return torch.stack([torch.randn(batch.x.shape[1:], generator=generator) for generator in generators]).to(batch.x)


def random_levels(batch: MicroBatch, count: int, number: int) -> torch.Tensor:
    """Uniform integers (N,) below `count` for the rows of a micro-batch, on the CPU."""
    generator = torch.Generator().manual_seed(mix(batch.part.seed, number))
    return torch.randint(count, (batch.part.whole,), generator=generator)[batch.part.rows]


def random_times(batch: MicroBatch, number: int) -> torch.Tensor:
    """Uniform numbers (N,) in [0, 1) for the rows of a micro-batch, on the CPU."""
    generator = torch.Generator().manual_seed(mix(batch.part.seed, number))
    return torch.rand(batch.part.whole, generator=generator)[batch.part.rows]
