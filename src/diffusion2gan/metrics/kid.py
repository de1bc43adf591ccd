"""Kernel distance between two sets of features (Bińkowski et al. 2018, KID), unbiased for any number of images."""

import torch

BLOCK = 1000  # rows of a kernel matrix computed at once


def kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(x·y / D + 1)³ between rows of x (N, D) and y (M, D)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kid(features: torch.Tensor, reference: torch.Tensor, device: torch.device | str = "cpu") -> float:
    """Squared maximum mean discrepancy between features (N, D) and a reference (M, D); lower is better.

    It is 0 on average, and can be negative, if both have the same distribution. It uses all pairs; the usual average
    over random subsets estimates the same quantity.
    """
    return resampled_kid(features, reference, torch.ones(1, len(features)), device).item()


def resampled_kid(
    features: torch.Tensor,
    reference: torch.Tensor,
    weights: torch.Tensor,
    device: torch.device | str = "cpu",
    block: int = BLOCK,
) -> torch.Tensor:
    """KID (resamples,) of features (N, D), where weights (resamples, N) say how often each feature is taken.

    An image is never compared with itself, however often it is taken. Raises ValueError for fewer than two images.
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError("KID needs two images or more on either side")
    x, y = (each.to(device, torch.float64) for each in (features, reference))
    taken = weights.to(x)
    within = torch.zeros(len(taken), dtype=x.dtype, device=x.device)
    across = torch.zeros_like(within)
    for rows, mine in zip(x.split(block), taken.split(block, dim=1), strict=True):
        within += (mine @ kernel(rows, x) * taken).sum(dim=1)
        across += mine @ kernel(rows, y).mean(dim=1)
    within -= taken.square() @ _of_itself(x)
    count = taken.sum(dim=1)
    pairs = count.square() - taken.square().sum(dim=1)
    of_reference = sum(kernel(rows, y).sum() for rows in y.split(block)) - _of_itself(y).sum()
    found = within / pairs + of_reference / (len(y) * (len(y) - 1)) - 2 * across / count
    return found.cpu()


def _of_itself(x: torch.Tensor) -> torch.Tensor:
    return (x.square().sum(dim=1) / x.shape[1] + 1) ** 3
