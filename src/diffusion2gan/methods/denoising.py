"""A diffusion model as a denoiser: its estimate x̂₀(xₜ, t, c) of the latent behind a noisy one, at any timestep."""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn

from diffusion2gan.generator import x0


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
