"""Training of the toy VAE."""

import numpy as np
import torch
from kornia.metrics import psnr

from diffusion2gan.images import to_tensor
from diffusion2gan.seeds import batch_indices
from diffusion2gan.toy import networks as toy
from diffusion2gan.training import distributed


class AutoencoderTraining:
    """Train the VAE on images uint8 (N, H, W, 3): absolute and squared error, and a small KL term."""

    averaged = "vae"
    kl_weight = 3e-5  # ours

    def __init__(self, images: np.ndarray, batch_size: int, learning_rate: float, seed: int):
        self.device = distributed.device()
        vae = toy.vae().to(self.device, memory_format=torch.channels_last)
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.modules = {"vae": vae}
        self.optimizers = {"vae": torch.optim.AdamW(vae.parameters(), learning_rate, betas=(0.9, 0.99))}

    def step(self, step: int) -> dict[str, float]:
        optimizer = self.optimizers["vae"]
        chosen = batch_indices(step, self.batch_size, len(self.images), self.seed)
        images = to_tensor(self.images[chosen]).to(self.device, memory_format=torch.channels_last)
        posterior = self.modules["vae"].encode(images).latent_dist
        decoded = self.modules["vae"].decode(posterior.sample()).sample
        error = decoded - images
        squared = error.square().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + squared + self.kl_weight * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules["vae"].parameters(), 1.0)  # ours
        optimizer.step()
        return {"loss": loss.item(), "psnr": psnr(decoded, images, 2.0).item(), "kl": kl.item()}
