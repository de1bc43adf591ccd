"""The noise of pairs and of samples, drawn from its seeds: z itself is never stored."""

from collections.abc import Sequence

import numpy as np
import torch


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal z (N, *shape), float32: row i is drawn from `seeds[i]` alone.

    NumPy's PCG64 and ziggurat: unlike torch's, their bits depend on neither device nor vector unit.
    """
    rows = [np.random.default_rng(int(seed)).standard_normal(shape, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))
