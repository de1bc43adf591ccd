import numpy as np
import pytest
import torch
from cleanfid.fid import kernel_distance

from diffusion2gan.metrics import bootstrap
from diffusion2gan.metrics.kid import kid, resampled_kid


def features(seed, count, shift=0.0):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def brute_force(x, y):
    """Bińkowski et al. 2018, Eq. 4, a pair at a time."""
    k = lambda a, b: (float(a @ b) / len(a) + 1) ** 3  # noqa: E731
    n, m = len(x), len(y)
    within = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_equals_brute_force():
    x, y = features(0, 13, shift=0.3), features(1, 17)
    expected = brute_force(x, y)
    assert kid(x, y) == pytest.approx(expected, rel=1e-9)
    assert resampled_kid(x, y, torch.ones(1, 13), block=5).item() == pytest.approx(expected, rel=1e-9)


def test_equals_clean_fid():
    x, y = features(2, 60, shift=0.2).numpy(), features(3, 60).numpy()
    np.random.seed(0)
    assert kid(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(kernel_distance(y, x, 3, 60), rel=1e-9)


def test_of_one_distribution_it_is_about_nothing_and_grows_with_the_shift():
    same, near, far = (kid(features(4, 300, shift), features(5, 300)) for shift in (0.0, 0.3, 1.0))
    assert abs(same) < 0.05 < near < far


def test_a_resample_never_compares_an_image_with_itself():
    """Its mean over resamples would otherwise lie far above."""
    x, y = features(6, 40), features(7, 200)
    replicates = resampled_kid(x, y, bootstrap.weights(40, 400, seed=0))
    assert abs(replicates.mean().item() - kid(x, y)) < 3 * replicates.std().item() / 400**0.5
    doubled = torch.tensor([[2.0, 1.0] + [1.0] * 38])
    chosen = x[[0, *range(40)]]
    pairs = [(i, j) for i in range(41) for j in range(41) if i != j and {i, j} != {0, 1}]
    k = (chosen @ chosen.T / 4 + 1) ** 3
    within = sum(k[i, j] for i, j in pairs) / len(pairs)
    ky = (y @ y.T / 4 + 1) ** 3
    of_y = (ky.sum() - ky.diagonal().sum()) / (200 * 199)
    expected = within + of_y - 2 * ((chosen @ y.T / 4 + 1) ** 3).mean()
    assert resampled_kid(x, y, doubled).item() == pytest.approx(expected.item(), rel=1e-9)


def test_one_image_is_too_few():
    for one, other in ((1, 5), (5, 1)):
        with pytest.raises(ValueError, match="^KID needs two images or more on either side$"):
            kid(features(0, one), features(1, other))
    assert kid(features(0, 2), features(1, 2)) != 0
