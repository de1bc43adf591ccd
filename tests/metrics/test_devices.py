"""Distances are computed on the device that was asked for. `meta` stands for a GPU: it takes no part of an operation
from the CPU, and fails when a result is copied from it, as the last step of each distance is."""

from types import SimpleNamespace

import pytest
import torch

from diffusion2gan.metrics.fid import Reference, resampled_fid
from diffusion2gan.metrics.kid import kid, resampled_kid
from diffusion2gan.metrics.precision_recall import inside_manifolds, precision_recall

FAKE, REAL, WEIGHTS = torch.rand(8, 4), torch.rand(9, 4), torch.ones(2, 8)


def reference():
    mean, factor, trace = (torch.ones(size, dtype=torch.float64, device="meta") for size in ((4,), (4, 3), ()))
    return SimpleNamespace(mean=mean, factor=factor, trace=trace)


@pytest.mark.parametrize(
    "distance",
    [
        lambda: resampled_kid(FAKE, REAL, WEIGHTS, "meta"),
        lambda: resampled_kid(FAKE, REAL, WEIGHTS, "meta", block=3),
        lambda: kid(FAKE, REAL, "meta"),
        lambda: resampled_fid(FAKE, reference(), WEIGHTS),
        lambda: inside_manifolds(FAKE, REAL, device="meta"),
        lambda: inside_manifolds(FAKE, REAL, block=3, device="meta"),
        lambda: precision_recall(FAKE, REAL, device="meta"),
    ],
)
def test_a_distance_is_copied_from_the_device_at_its_end(distance):
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        distance()


def test_a_reference_is_computed_on_the_device():
    with pytest.raises(NotImplementedError, match="aten::equal"):  # of the check within the covariance
        Reference(REAL, "meta")
