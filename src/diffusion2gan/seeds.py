"""Everything random that must not depend on the machine: seeds, the noise z, and the order of the data."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal z (N, *shape), float32: row i is drawn from `seeds[i]` alone.

    NumPy's PCG64 and ziggurat: unlike torch's, their bits depend on neither device nor vector unit.
    """
    rows = [np.random.default_rng(int(seed)).standard_normal(shape, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def batch_indices(step: int, batch_size: int, size: int, seed: int) -> torch.Tensor:
    """Indices (batch_size,) of the examples of a step: every example once an epoch, newly shuffled.

    Raises ValueError when there is no data.
    """
    if size < 1:
        raise ValueError("there are no examples to train on")
    positions = range(step * batch_size, (step + 1) * batch_size)
    return torch.stack([_permutation(p // size, size, seed)[p % size] for p in positions])


@lru_cache(maxsize=2)  # a batch spans two epochs at most, unless the data is smaller than a batch
def _permutation(epoch: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(mix(seed, epoch))
    return torch.randperm(size, generator=generator)


def mix(*numbers: int) -> int:
    """One 63-bit seed out of several numbers, the same on every machine and in every process."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64 (Steele et al., OOPSLA 2014)
        state = (state + (number & _64_BITS) * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & _64_BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _64_BITS
        state ^= state >> 31
    return state >> 1


_64_BITS = (1 << 64) - 1
