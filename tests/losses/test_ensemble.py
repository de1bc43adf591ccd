"""The transforms against torch.flip, torch.rot90, numpy's padding and loops over pixels, and their distributions."""

import math

import numpy as np
import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.losses.ensemble import Ensemble, Transform, cutout, recolour, sampling_grid, shift, stretch, turn

ONE = torch.ones(1)


def resampled(x: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
    return Transform(sampling_grid(list(maps), x.shape[-1]))(x)


def shifted(x: torch.Tensor, right: int, down: int) -> torch.Tensor:
    """x moved by whole pixels, edges mirrored, by numpy."""
    side, reach = x.shape[-1], 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    rows, columns = slice(reach - down, reach - down + side), slice(reach - right, reach - right + side)
    return torch.from_numpy(padded[:, :, rows, columns].copy())


def test_a_flip_is_torchs():
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(resampled(x, stretch(-ONE, ONE)), x.flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(resampled(x, stretch(ONE, -ONE)), x.flip(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("quarters", range(4))
def test_quarter_turns_are_torchs(quarters):
    x = torch.randn(1, 3, 8, 8)
    turned = resampled(x, turn(ONE * quarters * math.pi / 2))
    torch.testing.assert_close(turned, torch.rot90(x, -quarters, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("right, down", [(1, 0), (0, 1), (-1, 2), (2, -2)])
def test_whole_shifts_mirror_the_edges(right, down):
    x = torch.randn(1, 3, 8, 8)
    moved = resampled(x, shift(ONE * right / 8, ONE * down / 8))
    torch.testing.assert_close(moved, shifted(x, right, down), atol=1e-5, rtol=0)


def test_maps_are_done_in_their_order():
    x = torch.randn(1, 3, 8, 8)
    both = resampled(x, stretch(-ONE, ONE), shift(ONE / 8, 0 * ONE))
    torch.testing.assert_close(both, shifted(x.flip(3), 1, 0), atol=1e-5, rtol=0)


def test_a_free_map_against_a_loop_over_pixels():
    side, scale, angle, right = 6, 1.3, 0.4, 0.1
    x = torch.randn(1, 1, side, side, dtype=torch.float64)
    one = ONE.double()
    sampled = resampled(x, stretch(one * scale, one / scale), turn(one * angle), shift(one * right, 0 * one))

    def mirrored(place: float) -> float:  # about the borders of the picture, at -1/2 and side - 1/2
        place = (place + 0.5) % (2 * side)
        return min(place, 2 * side - place) - 0.5

    def pixel(row: float, column: float) -> float:
        row, column = (min(max(mirrored(place), 0.0), side - 1.0) for place in (row, column))
        top, left = min(int(row), side - 2), min(int(column), side - 2)
        below, after = row - top, column - left
        corners = x[0, 0, top : top + 2, left : left + 2]
        weights = torch.tensor([[(1 - below) * (1 - after), (1 - below) * after], [below * (1 - after), below * after]])
        return float((corners * weights).sum())

    middle = (side - 1) / 2
    for row in range(side):
        for column in range(side):
            across, along = column - middle - right * side, row - middle  # undo the shift, the turn, the stretch
            unturned = (
                math.cos(angle) * across + math.sin(angle) * along,
                -math.sin(angle) * across + math.cos(angle) * along,
            )
            expected = pixel(unturned[1] * scale + middle, unturned[0] / scale + middle)
            assert sampled[0, 0, row, column].item() == pytest.approx(expected, abs=1e-6)


def test_b_only_moves_whole_pixels():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 8)
    possible = torch.stack(
        [
            shifted(torch.rot90(flipped, turns, (2, 3)), right, down)[0]
            for flipped in (x, x.flip(3))
            for turns in range(4)
            for right in (-1, 0, 1)
            for down in (-1, 0, 1)
        ]
    )
    drawn = Ensemble("b")(x.expand(1500, -1, -1, -1), x.expand(1500, -1, -1, -1))[0]
    distance = (drawn[:, None] - possible).abs().amax((2, 3, 4))
    assert distance.amin(1).max() < 1e-4
    assert len(distance.argmin(1).unique()) == 72


def maps_of(preset: str, count: int) -> torch.Tensor:
    """Inverse maps (count, 2, 2) in units of the side, read off the sampling grid."""
    grid = Ensemble(preset).draw(torch.zeros(count, 4, 16, 16), torch.Generator().manual_seed(0)).grid
    across = (grid[:, 8, 15] - grid[:, 8, 0]) / (15 / 8)
    along = (grid[:, 15, 8] - grid[:, 0, 8]) / (15 / 8)
    return torch.stack([across, along], 2)


def test_g_scales_and_stretches_by_powers_of_two():
    maps = maps_of("bg", 20_000)
    area = maps.det().abs().log2() / 2  # the isotropic scale; the anisotropic one keeps areas
    assert area.mean().abs() < 0.01 and area.std().item() == pytest.approx(0.2, abs=0.005)
    singular = torch.linalg.svdvals(maps)
    stretched = (singular[:, 0] / singular[:, 1]).log2() / 2  # |N(0, 0.2)|
    assert stretched.square().mean().sqrt().item() == pytest.approx(0.2, abs=0.005)


def test_g_shifts_and_turns():
    x = torch.zeros(20_000, 4, 16, 16)
    grid = Ensemble("bg").draw(x, torch.Generator().manual_seed(0)).grid
    maps = maps_of("bg", len(x))
    centre = grid[:, 7:9, 7:9].mean((1, 2))
    undone = torch.linalg.solve(maps, centre[..., None])[..., 0] / 2  # minus the last shift, in sides, plus the first
    assert 0.125 < undone.std() < 0.2
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0])
    assert torch.histc(angle, 8, -math.pi, math.pi).div(len(angle)).sub(1 / 8).abs().max() < 0.01


def test_colour_is_brightness_then_contrast_then_saturation():
    torch.manual_seed(0)
    x = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    b, c, s = torch.rand(3, 5, 1, 1, 1, dtype=torch.float64)
    y = x + b
    y = (y - y.mean((1, 2, 3), keepdim=True)) * c + y.mean((1, 2, 3), keepdim=True)
    y = (y - y.mean(1, keepdim=True)) * s + y.mean(1, keepdim=True)
    torch.testing.assert_close(recolour(x, b, c, s), y)


def test_colour_is_drawn_from_diffaugments_ranges():
    transform = Ensemble("bgc").draw(torch.zeros(20_000, 4, 8, 8))
    for values, low, high in zip(transform.colour, (-0.5, 0.5, 0.0), (0.5, 1.5, 2.0), strict=True):
        assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.02)
    assert transform.mask is None


def test_cutout_is_a_box_of_half_the_side():
    mask = cutout(torch.tensor([[0.5, 0.5], [0.0, 1.0]]), 16)
    for number, (rows, columns) in enumerate([(slice(4, 12), slice(4, 12)), (slice(0, 4), slice(12, 16))]):
        expected = torch.ones(16, 16)
        expected[rows, columns] = 0
        assert torch.equal(mask[number, 0], expected)
    drawn = Ensemble("bgco").draw(torch.zeros(5_000, 4, 16, 16)).mask
    assert (1 - drawn).mean().item() == pytest.approx((7 / 16) ** 2, abs=0.01)  # half of a side, cut at the edges


def test_both_get_the_same_draw_and_samples_different_ones():
    x = torch.randn(1, 4, 8, 8).expand(6, -1, -1, -1)
    t0, t1 = Ensemble("bgco")(x, x)
    assert torch.equal(t0, t1)
    assert len({tuple(sample.flatten().tolist()) for sample in t0}) == 6


def test_a_generator_fixes_the_draw_whatever_the_precision():
    x = torch.randn(3, 4, 8, 8)
    first, _ = Ensemble("bgco")(x, x, torch.Generator().manual_seed(1))
    again, _ = Ensemble("bgco")(x, x, torch.Generator().manual_seed(1))
    double, _ = Ensemble("bgco")(x.double(), x.double(), torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    torch.testing.assert_close(first.double(), double, atol=1e-4, rtol=0)


def test_colour_and_cutout_can_be_differentiated_twice():
    transform = Ensemble("bgco").draw(torch.zeros(2, 4, 4, 4, dtype=torch.float64))

    def without_sampling(x):
        return recolour(x, *transform.colour[:, :, None, None, None]).square() * transform.mask

    assert torch.autograd.gradgradcheck(without_sampling, torch.randn(2, 4, 4, 4, dtype=torch.float64).requires_grad_())


def test_the_gradient_goes_through_the_sampling():
    ensemble = Ensemble("bgco")

    def transformed(x):
        return ensemble(x, x.detach(), torch.Generator().manual_seed(0))[0]

    assert torch.autograd.gradcheck(transformed, torch.randn(2, 4, 4, 4, dtype=torch.float64).requires_grad_())


def test_mistakes_are_told():
    with pytest.raises(UserError, match="b, bg, bgc, bgco"):
        Ensemble("all")
    with pytest.raises(ValueError, match="square"):
        Ensemble("b").draw(torch.zeros(1, 4, 8, 16))


@pytest.mark.parametrize("percentile", [0.3, 0.45, 0.55, 0.7, 0.9])
def test_geometry_and_cutout_agree_with_the_authors_package(percentile):
    """The same parameters move the same things to the same places, and cut out the same pixels.

    On a smooth blob away from the edges, within 3 % of its height, which a shift by an eighth of a pixel
    would exceed: the package resamples between two wavelet filters at twice the resolution, this project
    bilinearly at once. At the edges the two differ, since they mirror about other lines.
    """
    ada_aug = pytest.importorskip("elatentlpips.ada_aug", reason="pip install elatentlpips to compare with it")
    switches = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac")
    theirs = ada_aug.AdaAugment(**dict.fromkeys(switches, 1))
    theirs.p.fill_(1)
    side, p = 64, torch.tensor([percentile])
    places = torch.linspace(-1, 1, side)
    blob = torch.exp(-((places[:, None] - 0.1) ** 2 / 0.02 + (places[None] + 0.1) ** 2 / 0.05))[None, None]
    expected, _ = theirs(blob, blob, debug_percentile=percentile)

    normal = torch.erfinv(2 * p - 1)  # the package's own scale of a normal percentile
    power, whole = torch.exp2(0.2 * normal), ((2 * p - 1) * side / 8).round() / side
    maps = [
        stretch(1 - 2 * torch.floor(2 * p), ONE),
        turn(-torch.floor(4 * p) * math.pi / 2),  # both draw turns from a symmetric distribution; its sign is theirs
        shift(whole, whole),
        stretch(power, power),
        turn((1 - 2 * p) * math.pi),
        stretch(power, 1 / power),
        shift(0.125 * normal, 0.125 * normal),
    ]
    assert expected.max() > 0.9
    torch.testing.assert_close(resampled(blob, *maps), expected, atol=0.03, rtol=0)

    theirs = ada_aug.AdaAugment(cutout=1)
    theirs.p.fill_(1)
    expected, _ = theirs(torch.ones_like(blob), blob, debug_percentile=percentile)
    assert torch.equal(cutout(torch.stack([p, p], 1), side), expected)
