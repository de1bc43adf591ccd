import math

import pytest
import torch

from diffusion2gan.metrics.precision_recall import inside_manifolds, precision_recall, radii, realism


def brute_force(fake, real, k):
    """Kynkäänniemi et al. 2019, Eq. 1 and 2, a pair at a time."""

    def radius(points, i):
        return sorted(math.dist(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]

    def share(points, manifold):
        return sum(any(math.dist(p, m) <= radius(manifold, i) for i, m in enumerate(manifold)) for p in points) / len(
            points
        )

    fake, real = fake.tolist(), real.tolist()
    return share(fake, real), share(real, fake)


def features(seed, count, scale=1.0, shift=0.0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * scale + shift


@pytest.mark.parametrize("k", [1, 3])
def test_equals_brute_force(k):
    fake, real = features(0, 21, scale=0.6, shift=0.4), features(1, 34)
    expected = brute_force(fake, real, k)
    assert 0 < expected[1] < expected[0] < 1  # a case in which nothing is trivial
    assert precision_recall(fake, real, k) == pytest.approx(expected)


def test_the_block_does_not_matter():
    fake, real = features(2, 41, scale=0.7), features(3, 37)
    whole = precision_recall(fake, real)
    assert all(precision_recall(fake, real, block=block) == whole for block in (1, 7, 10, 41))


def test_a_set_covers_itself_and_nothing_far_away():
    points = features(4, 20)
    assert precision_recall(points, points) == (1.0, 1.0)
    assert precision_recall(points, points + 100) == (0.0, 0.0)


def test_one_sample_over_and_over_is_precise_without_recall():
    real = features(5, 30)
    assert precision_recall(real[:1].repeat(30, 1), real) == (1.0, pytest.approx(1 / 30))


def test_a_point_is_not_its_own_neighbour():
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    assert radii(line, 1).tolist() == [1, 1, 2, 4]
    assert radii(line, 3, block=3).tolist() == [7, 6, 4, 7]


def test_a_ball_holds_its_edge():
    """Kynkäänniemi et al. 2019, Eq. 1: at most the radius, so an image at just that distance is inside the manifold."""
    real = torch.tensor([[0.0], [1.0], [2.0]])  # the balls reach 1
    masks = inside_manifolds(torch.tensor([[3.0], [3.5], [40.0]]), real, k=1)  # those of the fakes 0.5, 0.5, 36.5
    assert [mask.tolist() for mask in masks] == [[True, False, False], [False, False, False]]
    masks = inside_manifolds(torch.tensor([[3.0], [4.0]]), real, k=1)  # 1 as well
    assert [mask.tolist() for mask in masks] == [[True, False], [False, False, True]]


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="more than 3 images, there are 3"):
        precision_recall(features(0, 3), features(1, 30))


def test_equals_prdc_on_two_thousand_features(capsys):
    import prdc  # it starts slowly

    generator = torch.Generator().manual_seed(0)
    fake = torch.randn(2000, 16, generator=generator) * 0.8 + 0.2
    real = torch.randn(2000, 16, generator=generator)
    expected = prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=3)
    assert precision_recall(fake, real) == pytest.approx((expected["precision"], expected["recall"]), abs=1e-12)
    assert 0.1 < expected["recall"] < expected["precision"] < 1


def test_realism_is_the_largest_ratio_of_a_balls_radius_to_the_distance_from_its_centre():
    """Of the balls around 0, 1, 3, 7 of radii 1, 1, 2, 4 the smaller half is the first two."""
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert realism(torch.tensor([[1.5], [-4.0], [7.0]]), real, k=1).tolist() == [2, 1 / 4, 1 / 6]
