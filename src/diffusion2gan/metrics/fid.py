"""Fréchet distance between two sets of features (Heusel et al. 2017, FID)."""

import warnings

import numpy as np
import torch
from cleanfid.fid import frechet_distance
from scipy.linalg import LinAlgWarning


def statistics(features: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), float64. ValueError for fewer than two."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs two pictures or more, there are {len(features)}")
    values = np.asarray(features, dtype=np.float64)
    return values.mean(axis=0), np.cov(values, rowvar=False)


def fid(features: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) between features (N, D) and (M, D); lower is better.

    Biased upwards for few pictures: compare only values of equal N and M. With N < D the
    covariances are singular, which scipy warns of; the trace is still right to six digits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid asks sqrtm for its error estimate
        return float(frechet_distance(*statistics(features), *statistics(reference)))
