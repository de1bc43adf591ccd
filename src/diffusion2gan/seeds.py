"""Randomness that is the same on every machine: seeds, the noise z, and the order of the data."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise z (N, *shape), float32; row i depends on `seeds[i]` only.

    NumPy's generator gives the same bits on every device and vector unit; torch's does not.
    """
    rows = [np.random.default_rng(int(seed)).standard_normal(shape, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def batch_indices(step: int, batch_size: int, size: int, seed: int) -> torch.Tensor:
    """Indices (batch_size,) of the examples of a step; every epoch visits each example once, in a new order.

    Raises ValueError if `size` is 0.
    """
    if size < 1:
        raise ValueError("there are no examples to train on")
    first, end = step * batch_size, (step + 1) * batch_size
    epochs = range(first // size, (end - 1) // size + 1)
    return torch.cat(
        [_permutation(epoch, size, seed)[max(0, first - epoch * size) : end - epoch * size] for epoch in epochs]
    )


@lru_cache(maxsize=2)  # a batch spans at most two epochs, unless the dataset is smaller than a batch
def _permutation(epoch: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(mix(seed, epoch))
    return torch.randperm(size, generator=generator)


def mix(*numbers: int) -> int:
    """Combine numbers into a 63-bit seed, the same on every machine and in every process."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64 (Steele et al., OOPSLA 2014)
        state = (state + (number & _64_BITS) * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & _64_BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _64_BITS
        state ^= state >> 31
    return state >> 1


_64_BITS = (1 << 64) - 1
