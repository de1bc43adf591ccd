"""Fréchet distance between two sets of features (Heusel et al. 2017, FID)."""

import torch


class Reference:
    """Mean (D,) and factor A of the covariance AAᵀ of real features (M, D), computed once for many comparisons.

    Raises ValueError for fewer than two features.
    """

    def __init__(self, features: torch.Tensor, device: torch.device | str = "cpu"):
        if len(features) < 2:
            raise ValueError(f"a covariance needs two images or more, there are {len(features)}")
        features = features.to(device, torch.float64)
        self.mean = features.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov(features.T))
        kept = values > values[-1] * 1e-12  # with few images most eigenvalues are 0
        self.trace = values.sum()
        self.factor = vectors[:, kept] * values[kept].sqrt()


def fid(features: torch.Tensor, reference: Reference | torch.Tensor) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) between features (N, D) and a reference; lower is better.

    FID is biased upwards for few images: compare only values with the same N and M.
    """
    if isinstance(reference, torch.Tensor):
        reference = Reference(reference)
    return resampled_fid(features, reference, torch.ones(1, len(features))).item()


def resampled_fid(features: torch.Tensor, reference: Reference, weights: torch.Tensor) -> torch.Tensor:
    """FID (resamples,) of features (N, D), where weights (resamples, N) say how often each feature is taken.

    With Σ₂ = AAᵀ, (Σ₁Σ₂)^½ and (AᵀΣ₁A)^½ have the same trace; AᵀΣ₁A is symmetric, and its size is the rank of Σ₂.
    Raises ValueError for fewer than two features.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs two images or more, there are {len(features)}")
    device = reference.mean.device
    offsets = features.to(device, torch.float64) - reference.mean
    projected, squares = offsets @ reference.factor, offsets.square().sum(dim=1)
    found = []
    for taken in weights.to(device, torch.float64):
        count = taken.sum()
        mean, centre = taken @ offsets / count, taken @ projected / count
        trace = (taken @ squares - count * mean.square().sum()) / (count - 1)
        cross = ((projected * taken[:, None]).T @ projected - count * torch.outer(centre, centre)) / (count - 1)
        root = torch.linalg.eigvalsh(cross).clamp(min=0).sqrt().sum()
        found.append(mean.square().sum() + trace + reference.trace - 2 * root)
    return torch.stack(found).cpu()
