"""Fréchet distance between two sets of features (Heusel et al. 2017, FID)."""

import torch


class Reference:
    """Mean (D,) and covariance AAᵀ of the features (M, D) of real pictures, factored once for all that is compared.

    ValueError for fewer than two pictures.
    """

    def __init__(self, features: torch.Tensor, device: torch.device | str = "cpu"):
        if len(features) < 2:
            raise ValueError(f"a covariance needs two pictures or more, there are {len(features)}")
        features = features.to(device, torch.float64)
        self.mean = features.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov(features.T))
        kept = values > values[-1] * 1e-12  # of few pictures most are nought
        self.trace = values.sum()
        self.factor = vectors[:, kept] * values[kept].sqrt()


def fid(features: torch.Tensor, reference: Reference | torch.Tensor) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) between features (N, D) and a reference; lower is better.

    Biased upwards for few pictures: compare only values of equal N and M.
    """
    if isinstance(reference, torch.Tensor):
        reference = Reference(reference)
    return resampled_fid(features, reference, torch.ones(1, len(features))).item()


def resampled_fid(features: torch.Tensor, reference: Reference, weights: torch.Tensor) -> torch.Tensor:
    """FID (resamples,) of the features (N, D), each taken as often as the weights (resamples, N) say.

    With Σ₂ = AAᵀ the trace of (Σ₁Σ₂)^½ is that of (AᵀΣ₁A)^½, of a symmetric matrix no larger than Σ₂'s rank.
    ValueError for fewer than two features.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs two pictures or more, there are {len(features)}")
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
