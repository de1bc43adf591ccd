"""Heun's method on the probability-flow ODE of EDM, dx/dσ = (x - D(x; σ)) / σ (Karras et al. 2022, Alg. 1)."""

from collections.abc import Callable

import torch

from diffusion2gan.pixel.edm import SIGMA_MAX, noise_levels

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def heun(denoise: Denoiser, z: torch.Tensor, steps: int) -> torch.Tensor:
    """The ODE's solution from σ = 80 to 0 for standard normal z (N, C, s, s), float64: 2 · steps - 1 evaluations."""
    levels = torch.cat([noise_levels(steps), torch.zeros(1, dtype=torch.float64)])
    x = z.double() * SIGMA_MAX
    for sigma, after in zip(levels[:-1], levels[1:], strict=True):
        x = heun_step(denoise, x, sigma, after)
    return x


def heun_step(denoise: Denoiser, x: torch.Tensor, sigma: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """x (N, C, s, s) at the noise level σ carried to another: two evaluations, one where that is 0.

    `sigma` and `after` are numbers, or (N,) levels of which none is 0.
    """
    wide = [level.to(x)[..., None, None, None] if level.dim() else level.to(x) for level in (sigma, after)]
    slope = (x - denoise(x, sigma)) / wide[0]
    euler = x + (wide[1] - wide[0]) * slope
    if not after.all():  # at σ = 0 the slope is not defined: the last step is Euler's
        return euler
    slope_there = (euler - denoise(euler, after)) / wide[1]
    return x + (wide[1] - wide[0]) * (slope + slope_there) / 2
