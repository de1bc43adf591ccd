"""Heun's sampler of EDM: its order, its evaluations, and one step written out."""

import math

import pytest
import torch

from diffusion2gan.evaluations import evaluations_per_pair
from diffusion2gan.pixel.edm import noise_levels
from diffusion2gan.pixel.heun import heun, heun_step

DEVIATION = 0.5


def gaussian(x, sigma):
    """D(x; σ) of images that are normal with mean 1: the conditional expectation in closed form."""
    variance = torch.as_tensor(sigma).to(x) ** 2
    variance = variance[..., None, None, None] if variance.dim() else variance
    return (DEVIATION**2 * x + variance) / (DEVIATION**2 + variance)


def solution(x, sigma, after):
    """The exact solution of the ODE: x - 1 shrinks with its deviation."""
    return 1 + (x - 1) * math.sqrt((DEVIATION**2 + after**2) / (DEVIATION**2 + sigma**2))


def two_modes(x, sigma):
    """D(x; σ) of pixels that are -1 or 1: a curved ODE without a closed solution."""
    return torch.tanh(x / torch.as_tensor(sigma).to(x) ** 2)


def test_second_order():
    z = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    exact = solution(80 * z, 80, 0)
    errors = [(heun(gaussian, z, steps) - exact).abs().max().item() for steps in (20, 40, 80, 160)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(1.8 < order < 2.4 for order in orders), (errors, orders)


def test_second_order_towards_a_fine_step_reference():
    x, ends = torch.tensor([0.3, -1.2, 2.0]).double().view(3, 1, 1, 1), (4.0, 0.5)

    def solved(steps, step=heun_step):
        levels = torch.linspace(*ends, steps + 1).double()
        y = x
        for sigma, after in zip(levels[:-1], levels[1:], strict=True):
            y = step(two_modes, y, sigma, after)
        return y

    reference = solved(20_000, lambda d, y, s, t: y + (t - s) * (y - d(y, s)) / s)  # Euler
    errors = [(solved(steps) - reference).abs().max().item() for steps in (8, 16, 32)]
    assert 1.7 < math.log2(errors[0] / errors[1]) < 2.3 and 1.7 < math.log2(errors[1] / errors[2]) < 2.3, errors


@pytest.mark.parametrize("steps", [1, 4, 18])
def test_evaluations_are_counted_right(steps):
    seen = []

    def counted(x, sigma):
        seen.append(len(x))
        return gaussian(x, sigma)

    heun(counted, torch.zeros(1, 3, 2, 2), steps)
    assert sum(seen) == evaluations_per_pair("heun", steps, 1)
    if steps == 18:
        assert sum(seen) == 35


def test_a_step_of_each_sample_at_its_own_level():
    x = torch.randn(2, 3, 2, 2).double()
    sigma, after = noise_levels(6)[[1, 3]], noise_levels(6)[[2, 4]]
    both = heun_step(gaussian, x, sigma, after)
    for i in range(2):
        s, t, y = sigma[i].item(), after[i].item(), x[i : i + 1]
        slope = (y - gaussian(y, s)) / s
        euler = y + (t - s) * slope
        wanted = y + (t - s) * 0.5 * (slope + (euler - gaussian(euler, t)) / t)
        torch.testing.assert_close(both[i : i + 1], wanted)
