"""Confidence intervals of metrics by bootstrap (Efron 1979): resampling the images with replacement.

A resample is a row of weights, the number of times that each image is taken, so features and distances are computed
only once.
"""

import numpy as np
import torch

Z = 1.96  # standard deviations in half of a 95 % interval


def weights(count: int, resamples: int, seed: int) -> torch.Tensor:
    """Weights (resamples, count), float64: how often each resample takes each of `count` images."""
    draws = np.random.default_rng([0xB0075, seed]).multinomial(count, np.full(count, 1 / count), size=resamples)
    return torch.from_numpy(draws.astype(np.float64))


def half_width(replicates: torch.Tensor) -> float:
    """Half width of the 95 % interval around a metric: 1.96 standard deviations of its resampled values (resamples,).

    Quantiles of the resampled values would be wrong: repeated images bias FID upwards, but do not change its spread.
    """
    return Z * replicates.std().item()


def mean_half_width(values: torch.Tensor, resamples: int, seed: int) -> float:
    """Half width of the 95 % interval of the mean of independent values (N,)."""
    values = values.double()
    return half_width(weights(len(values), resamples, seed) @ values / len(values))
