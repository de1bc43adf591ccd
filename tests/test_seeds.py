"""The order of the data, and seeds that are mixed from others."""

from collections import Counter

import pytest
import torch

from diffusion2gan.seeds import batch_indices, mix


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (7, 7), (3, 8)])
def test_an_epoch_visits_each_example_once(size, batch):
    drawn = torch.cat([batch_indices(step, batch, size, seed=5) for step in range(4 * size)]).tolist()
    epochs = [drawn[i : i + size] for i in range(0, len(drawn), size)]
    assert all(Counter(epoch) == Counter(range(size)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1  # in a new order
    assert batch_indices(3, batch, size, seed=5).tolist() == drawn[3 * batch : 4 * batch]
    with pytest.raises(ValueError, match="no examples"):
        batch_indices(0, batch, 0, seed=5)


def test_no_two_seeds_share_an_order():
    epochs = [tuple(batch_indices(epoch, 20, 20, seed).tolist()) for seed in range(5) for epoch in range(5)]
    assert len(set(epochs)) == 25


def test_seeds_are_mixed_without_collision():
    assert len({mix(seed, step) for seed in range(50) for step in range(200)}) == 10_000
    assert mix(1, 2) != mix(2, 1)
