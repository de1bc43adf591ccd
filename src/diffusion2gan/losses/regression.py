"""Point-wise distances of generated and target latents: the first rows of Table 1."""

import math

import torch
from torch.nn import functional as F


def mse(x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
    """Mean squared error of two batches of one shape (Luhman & Luhman 2021), a scalar."""
    return F.mse_loss(x0, x1)


def pseudo_huber(x0: torch.Tensor, x1: torch.Tensor, c: float | None = None) -> torch.Tensor:
    """√(‖x0 - x1‖² + c²) - c, the norm taken over each sample, mean over the batch; a scalar.

    Song & Dhariwal 2024 ("Improved techniques for training consistency models", Eq. 7); c defaults
    to their 0.00054 √d for samples of d numbers.
    """
    squared = (x0 - x1).square().flatten(1).sum(1)
    c = 0.00054 * math.sqrt(x0[0].numel()) if c is None else c
    return ((squared + c**2).sqrt() - c).mean()
