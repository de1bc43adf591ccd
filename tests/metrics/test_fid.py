import numpy as np
import pytest
import torch
from cleanfid.fid import fid_from_feats

from diffusion2gan.metrics import bootstrap
from diffusion2gan.metrics.fid import Reference, fid, resampled_fid


def gaussian(seed, count, mean, deviation):
    """Features whose sample mean and covariance are exactly `mean` and diag(deviation²)."""
    values = np.random.default_rng(seed).normal(size=(count, len(mean)))
    values -= values.mean(axis=0)
    whiten = np.linalg.cholesky(np.linalg.inv(np.cov(values, rowvar=False)))
    return torch.from_numpy(values @ whiten * deviation + mean)


def test_between_diagonal_gaussians_it_has_a_closed_form():
    mean, other = np.array([1.0, -2.0, 0.5, 0.0]), np.array([0.0, -2.0, 1.5, 3.0])
    deviation, spread = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 2.0, 1.0, 0.1])
    expected = ((mean - other) ** 2).sum() + ((deviation - spread) ** 2).sum()
    assert fid(gaussian(0, 50, mean, deviation), gaussian(1, 80, other, spread)) == pytest.approx(expected, rel=1e-6)


def test_equals_clean_fid():
    random = np.random.default_rng(2)
    first, second = random.gamma(1.0, size=(60, 12)), random.gamma(1.5, size=(90, 12))
    ours = fid(torch.from_numpy(first), torch.from_numpy(second))
    assert ours == pytest.approx(fid_from_feats(first, second), rel=1e-9)


def test_a_resample_is_the_fid_of_the_images_it_takes():
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.randn(count, 5, generator=generator, dtype=torch.float64) for count in (30, 40))
    taken = bootstrap.weights(30, 4, seed=0)
    expected = [fid(first.repeat_interleave(each.long(), dim=0), second) for each in taken]
    assert resampled_fid(first, Reference(second), taken).tolist() == pytest.approx(expected, rel=1e-9)


def test_the_interval_covers_what_other_samples_give():
    """The spread of FID over independent sets of images is what resampling one of them says."""
    generator = torch.Generator().manual_seed(4)
    reference = Reference(torch.randn(500, 6, generator=generator))
    others = [fid(torch.randn(200, 6, generator=generator) + 0.3, reference) for _ in range(60)]
    drawn = torch.randn(200, 6, generator=generator) + 0.3
    half = bootstrap.half_width(resampled_fid(drawn, reference, bootstrap.weights(200, 200, seed=0)))
    assert half == pytest.approx(1.96 * np.std(others), rel=0.4)


@pytest.mark.parametrize("count", [100, 10], ids=["more pictures than features", "fewer"])
def test_of_a_set_with_itself_it_is_nothing(count):
    features = torch.randn(count, 24, generator=torch.Generator().manual_seed(0))
    assert fid(features, features) == pytest.approx(0, abs=1e-4)


def test_with_fewer_images_than_features_it_is_still_right():
    """tr (Σ₁Σ₂)^½ is the nuclear norm of XYᵀ for centred, scaled features X and Y."""
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(20, 64, generator=generator, dtype=torch.float64) for _ in range(2))
    x, y = ((values - values.mean(0)) / 19**0.5 for values in (first, second))
    cross = 2 * torch.linalg.svdvals(x @ y.T).sum()
    expected = (first.mean(0) - second.mean(0)).square().sum() + x.square().sum() + y.square().sum() - cross
    assert fid(first, second) == pytest.approx(expected.item(), rel=1e-5)


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="there are 1"):
        fid(torch.zeros(1, 4), torch.randn(5, 4))
    with pytest.raises(ValueError, match="there are 1"):
        Reference(torch.zeros(1, 4))


def test_two_images_are_enough_and_one_is_not():
    two, one = torch.rand(2, 3), torch.rand(1, 3)
    assert resampled_fid(two, Reference(two), torch.ones(1, 2)).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="two images or more, there are 1"):
        Reference(one)
    with pytest.raises(ValueError, match="two images or more, there are 1"):
        resampled_fid(one, Reference(two), torch.ones(1, 1))
