"""Heun's method on the probability-flow ODE of EDM, dx/dσ = (x - D(x; σ)) / σ (Karras et al. 2022, Alg. 1)."""

from collections.abc import Callable

import torch

from diffusion2gan.pixel.edm import SIGMA_MAX, noise_levels

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def heun(denoise: Denoiser, z: torch.Tensor, steps: int) -> torch.Tensor:
    """Solve the ODE from σ = 80 to 0 for standard normal z (N, C, s, s), in 2 · steps - 1 evaluations.

    Returns images (N, C, s, s) in float64.
    """
    levels = torch.cat([noise_levels(steps), torch.zeros(1, dtype=torch.float64)])
    x = z.double() * SIGMA_MAX
    for sigma, after in zip(levels[:-1], levels[1:], strict=True):
        x = heun_step(denoise, x, sigma, after)
    return x


def heun_step(denoise: Denoiser, x: torch.Tensor, sigma: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """One step for x (N, C, s, s) from noise level `sigma` to `after`: two evaluations, or one if `after` is 0.

    Levels are scalars, or (N,) with every `after` above 0.
    """
    wide = [level.to(x)[..., None, None, None] if level.dim() else level.to(x) for level in (sigma, after)]
    slope = (x - denoise(x, sigma)) / wide[0]
    euler = x + (wide[1] - wide[0]) * slope
    if not after.all():  # the slope is undefined at σ = 0, so the last step is Euler's
        return euler
    slope_there = (euler - denoise(euler, after)) / wide[1]
    return x + (wide[1] - wide[0]) * (slope + slope_there) / 2
