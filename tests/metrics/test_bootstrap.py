import pytest
import torch

from diffusion2gan.metrics import bootstrap


def test_a_resample_takes_as_many_as_there_are():
    taken = bootstrap.weights(50, 20, seed=0)
    assert taken.shape == (20, 50) and (taken.sum(dim=1) == 50).all() and (taken == taken.round()).all()
    assert torch.equal(taken, bootstrap.weights(50, 20, seed=0))
    assert not torch.equal(taken, bootstrap.weights(50, 20, seed=1))


def test_the_interval_of_a_mean_is_the_textbooks():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 3
    textbook = 1.96 * values.std().item() / 400**0.5
    assert bootstrap.mean_half_width(values, 2000, seed=0) == pytest.approx(textbook, rel=0.08)


def test_what_does_not_vary_has_no_interval():
    assert bootstrap.mean_half_width(torch.ones(30), 10, seed=0) == pytest.approx(0, abs=1e-12)
