"""Training of a small EDM denoiser (Karras et al. 2022, Sec. 5), for scales that do not use the published one."""

import torch

from diffusion2gan.pixel.edm import EDM
from diffusion2gan.seeds import batch_indices
from diffusion2gan.training import distributed

P_MEAN, P_STD = -1.2, 1.2  # of ln σ: Karras et al. 2022, Table 1


class EDMTraining:
    """Train D(x; σ) on images y (N, C, s, s) in [-1, 1]: E λ(σ) ‖D(y + σ n; σ) - y‖², ln σ normal (Eq. 2, Table 1).

    The optimizer is ours. EDM's augmentation is left out.
    """

    averaged = "denoiser"

    def __init__(self, images: torch.Tensor, denoiser: EDM, batch_size: int, learning_rate: float, seed: int):
        self.device = distributed.device()
        self.images, self.batch_size, self.seed = images.to(self.device), batch_size, seed
        self.modules = {"denoiser": denoiser.to(self.device)}
        self.optimizers = {"denoiser": torch.optim.AdamW(denoiser.parameters(), learning_rate, betas=(0.9, 0.99))}

    def step(self, step: int) -> dict[str, float]:
        optimizer = self.optimizers["denoiser"]
        denoiser = self.modules["denoiser"]
        y = self.images[batch_indices(step, self.batch_size, len(self.images), self.seed)].float()
        sigma = (torch.randn(len(y), device=self.device) * P_STD + P_MEAN).exp()
        noisy = y + sigma[:, None, None, None] * torch.randn_like(y)
        errors = (denoiser(noisy, sigma) - y).square().mean((1, 2, 3))
        loss = (weight(sigma, denoiser.config.sigma_data) * errors).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules["denoiser"].parameters(), 1.0)  # ours
        optimizer.step()
        return {"loss": loss.item()}


def weight(sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """λ(σ) = (σ² + σ_data²) / (σ σ_data)²: with it, the error of the raw network has the same weight at every σ."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
