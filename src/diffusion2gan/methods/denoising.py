"""Shared by several methods: the teacher's estimate x̂₀(xₜ, t, c) at any timestep, guidance, DDIM, noise levels."""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn

from diffusion2gan.generator import x0
from diffusion2gan.training.student import MicroBatch


class Denoiser(nn.Module):
    """Estimates x₀ from xₜ = αₜ x₀ + σₜ ε with a U-Net that predicts ε or v, as `scheduler` says.

    αₜ = √ᾱₜ and σₜ = √(1 - ᾱₜ) are `scheduler`'s, with αₜ² + σₜ² = 1.
    """

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler):
        super().__init__()
        self.unet = unet
        self.prediction_type = scheduler.config.prediction_type
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.clone(), persistent=False)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, text_embeddings: torch.Tensor, **added: torch.Tensor
    ) -> torch.Tensor:
        """x̂₀ (N, C, h, w), float32 or wider, of noisy latents (N, C, h, w) at timesteps (N,).

        `text_embeddings` is (N, T, D); SDXL also takes `text_embeds` and `time_ids`.
        """
        conditions = {"encoder_hidden_states": text_embeddings, "added_cond_kwargs": added}
        prediction = self.unet(noisy, timesteps, **conditions).sample
        wide = torch.promote_types(noisy.dtype, torch.float32)
        return x0(prediction.to(wide), noisy.to(wide), self.alpha_bar(timesteps).to(wide), self.prediction_type)

    def alpha_bar(self, timesteps: torch.Tensor) -> torch.Tensor:
        """ᾱ at timesteps (N,), as (N, 1, 1, 1)."""
        return self.alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1)


def guided(
    denoiser: nn.Module,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    conditions: dict[str, torch.Tensor],
    unconditional: dict[str, torch.Tensor],
    guidance: float,
) -> torch.Tensor:
    """Classifier-free guidance: x̂(∅) + w (x̂(c) - x̂(∅)), both branches in one call; w = `guidance`, 1 for none.

    `conditions` are (N, …) by name, `unconditional` (1, …).
    """
    if guidance == 1:
        return denoiser(noisy, timesteps, **conditions)
    both = {name: torch.cat([unconditional[name].expand_as(each), each]) for name, each in conditions.items()}
    without, given = denoiser(torch.cat([noisy, noisy]), torch.cat([timesteps, timesteps]), **both).chunk(2)
    return without + guidance * (given - without)


def ddim_step(
    noisy: torch.Tensor, estimated: torch.Tensor, alpha_bar: torch.Tensor, nearer: torch.Tensor
) -> torch.Tensor:
    """A deterministic DDIM step (Song et al. 2021, Eq. 12) of noisy latents (N, C, h, w), given their estimated x₀.

    `alpha_bar` and `nearer` are ᾱ before and after the step, (N, 1, 1, 1); 1 ends at x₀.
    """
    noise = (noisy - alpha_bar.sqrt() * estimated) / (1 - alpha_bar).sqrt()
    return nearer.sqrt() * estimated + (1 - nearer).sqrt() * noise


class NoiseLevels:
    """The noise levels of a sampler with `steps` trailing steps, from pure noise (0) to x₀ (`steps`).

    `timesteps` are those of the steps, (steps,). `alphas_cumprod` has ᾱ of each, then 1, (steps + 1,).
    """

    def __init__(self, scheduler: DDIMScheduler, steps: int):
        sampler = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
        sampler.set_timesteps(steps)
        self.timesteps = sampler.timesteps
        self.alphas_cumprod = torch.cat([scheduler.alphas_cumprod[self.timesteps], torch.ones(1)])

    def alpha_bar(self, levels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """ᾱ of levels (N,), as (N, 1, 1, 1), with the device and the dtype of `like`."""
        return self.alphas_cumprod[levels].view(-1, 1, 1, 1).to(like)

    def noised(self, x: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """√ᾱ x + √(1 - ᾱ) ε of latents and noise (N, C, h, w); at level 0 pure noise, from which a student samples.

        The last ᾱ of Stable Diffusion is not 0, so that a training would see a trace of x there (Lin et al. 2024).
        """
        alpha_bar = self.alpha_bar(levels, x)
        noisy = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
        return torch.where((levels == 0).view(-1, 1, 1, 1).to(x.device), noise, noisy)


def random_noise(batch: MicroBatch, generator: torch.Generator) -> torch.Tensor:
    """The rows of a micro-batch (N, C, h, w) of standard normal noise for the whole batch."""
    whole = torch.randn(batch.part.whole, *batch.x.shape[1:], generator=generator)
    return whole[batch.part.rows].to(batch.x)


def random_levels(batch: MicroBatch, count: int, generator: torch.Generator) -> torch.Tensor:
    """The rows of a micro-batch (N,) of uniform levels from 0 to `count` - 1 for the whole batch."""
    return torch.randint(count, (batch.part.whole,), generator=generator)[batch.part.rows]
