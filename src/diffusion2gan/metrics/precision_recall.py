"""Improved precision and recall (Kynkäänniemi et al. 2019).

A manifold is the union of balls around features, each reaching to its k-th nearest neighbour.
Precision is the share of drawn pictures on the manifold of the real ones, recall the reverse.
"""

import torch

BLOCK = 1000  # rows of distances at once: 30,000 × 30,000 never needs more than 0.24 GB


def precision_recall(
    fake: torch.Tensor, real: torch.Tensor, k: int = 3, block: int = BLOCK, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Precision and recall in [0, 1] of features fake (N, D) against real (M, D)."""
    precise, recalled = on_manifolds(fake, real, k, block, device)
    return precise.double().mean().item(), recalled.double().mean().item()


def on_manifolds(
    fake: torch.Tensor, real: torch.Tensor, k: int = 3, block: int = BLOCK, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each fake whether it is on the manifold of the real (N,), of each real whether on the fakes' (M,).

    Distances are float64, for a difference of two nearby points loses most of float32.
    ValueError where a set has no k-th neighbour.
    """
    fake, real = fake.to(device, torch.float64), real.to(device, torch.float64)
    fake_radii, real_radii = radii(fake, k, block), radii(real, k, block)
    precise = []
    recalled = torch.zeros(len(real), dtype=torch.bool, device=device)
    for rows, reach in zip(fake.split(block), fake_radii.split(block), strict=True):
        distances = torch.cdist(rows, real)
        precise.append((distances <= real_radii).any(dim=1))
        recalled |= (distances <= reach[:, None]).any(dim=0)
    return torch.cat(precise).cpu(), recalled.cpu()


def realism(fake: torch.Tensor, real: torch.Tensor, k: int = 3) -> torch.Tensor:
    """How far inside the manifold of the real each fake is (N,): 1 is its edge, more is inside.

    The realism score of Kynkäänniemi et al. 2019, Sec. 5: the largest ratio of a ball's radius to the distance from
    its centre, over the smaller half of the balls.
    """
    fake, real = fake.double(), real.double()
    reach = radii(real, k)
    small = reach <= reach.median()
    distances = torch.cdist(fake, real[small]).clamp_min(torch.finfo(torch.float64).tiny)
    return (reach[small] / distances).amax(dim=1)


def radii(features: torch.Tensor, k: int, block: int = BLOCK) -> torch.Tensor:
    """Distance (N,) of each of the features (N, D) to its k-th nearest neighbour, itself not counted."""
    if len(features) <= k:
        raise ValueError(f"the {k}-th neighbour needs more than {k} pictures, there are {len(features)}")
    found = []
    for first in range(0, len(features), block):
        distances = torch.cdist(features[first : first + block], features)
        distances.diagonal(first).fill_(torch.inf)
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)
