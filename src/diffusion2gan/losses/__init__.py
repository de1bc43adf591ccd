"""The losses of the paper: d(x0, x1) for regression (Sec. 3.2, Eq. 1-4) and the GAN loss (Sec. 3.3, Eq. 5 and 6).

from diffusion2gan.losses import ELatentLPIPS

distance = ELatentLPIPS.from_pretrained("sd15")
loss = distance(generated, target).mean()  # scaled latents (N, 4, s, s)
"""

from diffusion2gan.losses.adversarial import discriminator_loss, generator_loss, rejection_loss
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS, PixelLPIPS
from diffusion2gan.losses.regression import (
    PERCEPTUAL,
    POINTWISE,
    BatchPart,
    Loss,
    l1,
    mse,
    pseudo_huber,
    regression_loss,
)

__all__ = [
    "LPIPS",
    "PERCEPTUAL",
    "POINTWISE",
    "ELatentLPIPS",
    "Ensemble",
    "Loss",
    "PixelLPIPS",
    "BatchPart",
    "discriminator_loss",
    "generator_loss",
    "l1",
    "mse",
    "pseudo_huber",
    "regression_loss",
    "rejection_loss",
]
