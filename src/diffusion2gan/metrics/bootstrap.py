"""How far a metric would move, had other pictures been drawn (Efron 1979): resampling with replacement.

A resample is a row of weights, how often it takes each picture, so that a metric needs its features and
distances only once.
"""

import numpy as np
import torch

Z = 1.96  # of a 95 % interval


def weights(count: int, resamples: int, seed: int) -> torch.Tensor:
    """(resamples, count) float64: how often each resample of `count` pictures takes each of them."""
    draws = np.random.default_rng([0xB0075, seed]).multinomial(count, np.full(count, 1 / count), size=resamples)
    return torch.from_numpy(draws.astype(np.float64))


def half_width(replicates: torch.Tensor) -> float:
    """Half of the 95 % interval, 1.96 standard deviations of a metric's values (resamples,).

    Around the metric itself, and not the resamples' own quantiles: a resample repeats pictures, which
    biases FID upwards but leaves its spread right.
    """
    return Z * replicates.std().item()


def of_mean(values: torch.Tensor, resamples: int, seed: int) -> float:
    """Half of the 95 % interval of the mean of independent values (N,)."""
    values = values.double()
    return half_width(weights(len(values), resamples, seed) @ values / len(values))
