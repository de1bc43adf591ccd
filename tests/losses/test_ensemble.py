"""The transforms T of the presets: their parts, their order, their distributions and their gradients."""

import math

import numpy as np
import pytest
import torch
from transforms import read_at, shifted

from diffusion2gan.errors import UserError
from diffusion2gan.losses.ensemble import PRESETS, Ensemble, cutout, recolour
from diffusion2gan.losses.resampling import RESAMPLINGS


def undone(side: int, flip, quarters, whole, scale, first, stretched, second, share) -> tuple[np.ndarray, np.ndarray]:
    """Where ADA's chain of transforms reads each pixel, in double precision: each step undone, the last one first."""

    def turned_back(x, y, angle):
        return math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x

    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    x, y = x - side * share[0], y - side * share[1]
    x, y = turned_back(x, y, second)
    x, y = x / stretched, y * stretched
    x, y = turned_back(x, y, first)
    x, y = x / scale, y / scale
    x, y = x - whole[0], y - whole[1]
    x, y = turned_back(x, y, quarters * math.pi / 2)
    x = flip * x
    return y + (side - 1) / 2, x + (side - 1) / 2


@pytest.mark.parametrize("side, tolerance", [(8, 1e-5), (64, 1e-4)])
def test_geometry_is_adas_chain_sampled_in_order(side, tolerance):
    """Every number is sampled again here in the documented order: a seed must always give the same transforms."""
    count = 6
    x = 2 * torch.rand(count, 2, side, side, generator=torch.Generator().manual_seed(1)) - 1
    transformed, _ = Ensemble("bg", "bilinear")(x, x, torch.Generator().manual_seed(2))

    again = torch.Generator().manual_seed(2)
    flips, quarters = (torch.randint(ways, (count,), generator=again).tolist() for ways in (2, 4))
    right, down = ((torch.rand(count, generator=again) - 0.5) * side / 4 for _ in range(2))
    scale = 2 ** (0.2 * torch.randn(count, generator=again).double())
    first = (2 * torch.rand(count, generator=again).double() - 1) * math.pi
    stretched = 2 ** (0.2 * torch.randn(count, generator=again).double())
    second = (2 * torch.rand(count, generator=again).double() - 1) * math.pi
    shares = [0.125 * torch.randn(count, generator=again).double() for _ in range(2)]
    for i in range(count):
        places = undone(
            side, 1 - 2 * flips[i], quarters[i], (right[i].round().item(), down[i].round().item()), scale[i].item(),
            first[i].item(), stretched[i].item(), second[i].item(), (shares[0][i].item(), shares[1][i].item()),
        )  # fmt: skip
        expected = read_at(x[i].double().numpy(), *places)
        torch.testing.assert_close(transformed[i].double(), torch.from_numpy(expected), atol=tolerance, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_rows_of_a_transform_are_those_of_the_batch(preset):
    x = torch.randn(6, 4, 8, 8)
    transform = Ensemble(preset).draw(6, 8, torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([transform[rows](x[rows]) for rows in (slice(0, 4), slice(4, 6))]), transform(x))


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
    """Maps (count, 3, 3) of pixels of a latent of side 16."""
    return Ensemble(preset).draw(count, 16, torch.Generator().manual_seed(0)).maps


def test_g_scales_and_stretches_by_powers_of_two():
    maps = maps_of("bg", 20_000)[:, :2, :2]
    area = maps.det().abs().log2() / 2  # the isotropic scale; the anisotropic one keeps areas
    assert area.mean().abs() < 0.01 and area.std().item() == pytest.approx(0.2, abs=0.005)
    singular = torch.linalg.svdvals(maps)
    stretched = (singular[:, 0] / singular[:, 1]).log2() / 2  # |N(0, 0.2)|
    assert stretched.square().mean().sqrt().item() == pytest.approx(0.2, abs=0.005)


def test_g_shifts_and_turns():
    maps = maps_of("bg", 20_000)
    centre = torch.tensor([7.5, 7.5, 1], dtype=torch.float64)
    moved = ((maps @ centre)[:, :2] - 7.5) / 16  # the last shift, in sides, plus the first
    assert 0.125 < moved.std() < 0.2
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


def test_colour_is_sampled_from_diffaugments_ranges():
    transform = Ensemble("bgc").draw(20_000, 8)
    for values, low, high in zip(transform.colour.T, (-0.5, 0.5, 0.0), (0.5, 1.5, 2.0), strict=True):
        assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.02)
    assert transform.mask is None


def test_cutout_is_a_box_of_half_the_side():
    mask = cutout(torch.tensor([[0.5, 0.5], [0.0, 1.0]]), 16)
    for number, (rows, columns) in enumerate([(slice(4, 12), slice(4, 12)), (slice(0, 4), slice(12, 16))]):
        expected = torch.ones(16, 16)
        expected[rows, columns] = 0
        assert torch.equal(mask[number, 0], expected)
    drawn = Ensemble("bgco").draw(5_000, 16).mask
    assert (1 - drawn).mean().item() == pytest.approx((7 / 16) ** 2, abs=0.01)  # half of a side, cut at the edges


def test_both_latents_get_the_same_transform_and_samples_get_different_ones():
    x = torch.randn(1, 4, 8, 8).expand(6, -1, -1, -1)
    t0, t1 = Ensemble("bgco")(x, x)
    assert torch.equal(t0, t1)
    assert len({tuple(sample.flatten().tolist()) for sample in t0}) == 6


def drawn_alike(*presets: str, x: torch.Tensor) -> list[torch.Tensor]:
    """T x of one draw, with the parts of each preset: a preset draws what is in the one before it first."""
    return [Ensemble(preset)(x, x, torch.Generator().manual_seed(0))[0] for preset in presets]


def test_cutout_comes_after_colour():
    """Removed pixels are 0, not the brightness."""
    x = torch.randn(200, 4, 8, 8, dtype=torch.float64)
    coloured, cut = drawn_alike("bgc", "bgco", x=x)
    kept = (cut != 0).any(1, keepdim=True).expand_as(cut)
    assert 0.5 < kept.double().mean() < 0.9 and not cut[~kept].any()
    torch.testing.assert_close(cut[kept], coloured[kept], atol=1e-9, rtol=0)


def test_each_sample_has_a_box_of_its_own():
    """Boxes that touch no edge have half the side; centres are uniform and independent."""
    (cut,) = drawn_alike("bgco", x=torch.full((4000, 1, 16, 16), 3.0))
    gone = (cut == 0)[:, 0]
    rows, columns = gone.any(2), gone.any(1)
    assert torch.equal(gone, rows[:, :, None] & columns[:, None, :])  # one rectangle
    for lines in (rows, columns):
        inside = lines[~lines[:, 0] & ~lines[:, -1]]
        assert len(inside) > 1500 and (inside.sum(1) == 8).all()
        assert lines.double().mean(0)[4:12].sub(1 / 2).abs().max() < 0.04  # as often as a uniform centre is within 1/4
    places = torch.arange(16.0)
    centres = torch.stack([(lines * places).sum(1) / lines.sum(1) for lines in (rows, columns)])
    assert centres.corrcoef()[0, 1].abs() < 0.06


def test_colour_is_read_off_what_the_ensemble_does():
    """Brightness moves the mean, contrast the deviations of the grey, saturation those of channels from the grey."""
    x = torch.randn(3000, 4, 8, 8, dtype=torch.float64)
    moved, coloured = drawn_alike("bg", "bgc", x=x)

    def parts(y):
        grey = y.mean(1, keepdim=True)
        mean = grey.mean((2, 3), keepdim=True)
        return mean, grey - mean, y - grey

    def factor(part, coloured_part):
        found = (part * coloured_part).sum((1, 2, 3)) / part.square().sum((1, 2, 3))
        torch.testing.assert_close(coloured_part, found[:, None, None, None] * part, atol=1e-8, rtol=0)
        return found

    (mean, grey, colour), (new_mean, new_grey, new_colour) = parts(moved), parts(coloured)
    brightness, contrast = (new_mean - mean).flatten(), factor(grey, new_grey)
    saturation = factor(colour, new_colour) / contrast
    for values, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5), (saturation, 0.0, 2.0)):
        assert low <= values.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < values.max() <= high
        quarters = values.sub(low).div(high - low).quantile(torch.tensor([0.25, 0.5, 0.75]).double())
        assert quarters.sub(torch.tensor([0.25, 0.5, 0.75])).abs().max() < 0.03
    together = torch.stack([brightness, contrast, saturation]).corrcoef() - torch.eye(3)
    assert together.abs().max() < 0.08  # sampled independently


def forward_maps(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The linear parts (n, 2, 2), (across, along), and shifts (n, 2) in sides, of draws of "bg", by ramps.

    A ramp's sample is the place that was read. Draws that read the mirror in the middle are left out, about 1 in 2000.
    """
    side = 32
    along, across = torch.meshgrid(torch.arange(side).double(), torch.arange(side).double(), indexing="ij")
    ramps = torch.stack([across, along])[None].expand(count, -1, -1, -1)
    (read,) = drawn_alike("bg", x=ramps)
    read = read[:, :, 15:17, 15:17]
    read = read[((read > 0.5) & (read < side - 1.5)).all((1, 2, 3))]
    assert len(read) > 0.99 * count
    inverse = torch.stack([read[:, :, 0, 1] - read[:, :, 0, 0], read[:, :, 1, 0] - read[:, :, 0, 0]], 2)
    forward = torch.linalg.inv(inverse)
    shift = -(forward @ (read.mean((2, 3)) - (side - 1) / 2)[:, :, None])[:, :, 0] / side
    return forward, shift


def test_every_part_of_g_is_there():
    """Turn before and after the stretch, each by any angle, and a shift of a deviation of 1/8 beside b's."""
    forward, shift = forward_maps(5_000)
    after, stretched, before = torch.linalg.svd(forward)
    clear = (stretched[:, 0] / stretched[:, 1]).log2() > 0.1  # otherwise the directions are arbitrary
    for axes in (after[:, :, 0], before[:, 0]):
        angles = torch.atan2(axes[:, 1], axes[:, 0])[clear] % math.pi
        shares = torch.histc(angles, 6, 0, math.pi) / len(angles)
        assert shares.sub(1 / 6).abs().max() < 0.02
    assert ((forward.det() < 0).double().mean() - 1 / 2).abs() < 0.02  # b's flip
    area = forward.det().abs().log2() / 2
    assert area.std().item() == pytest.approx(0.2, abs=0.006)
    # b shifts by whole pixels of 32 within ± 4: its deviation is scaled by g's maps
    whole = torch.arange(-4.0, 5).square() @ torch.tensor([0.5, *[1.0] * 7, 0.5]) / 8 / 32**2
    deviation = math.sqrt(0.125**2 + whole.item() * math.exp(2 * (0.2 * math.log(2)) ** 2) ** 2)
    assert shift.std(0).tolist() == pytest.approx([deviation] * 2, abs=0.004)
    assert torch.cat([shift.T, area[None]]).corrcoef().fill_diagonal_(0).abs().max() < 0.05


def test_a_generator_fixes_the_transforms_whatever_the_precision():
    x = torch.randn(3, 4, 8, 8)
    first, _ = Ensemble("bgco")(x, x, torch.Generator().manual_seed(1))
    again, _ = Ensemble("bgco")(x, x, torch.Generator().manual_seed(1))
    double, _ = Ensemble("bgco")(x.double(), x.double(), torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    torch.testing.assert_close(first.double(), double, atol=1e-4, rtol=0)


def test_torchs_defaults_do_not_change_the_transforms():
    expected = Ensemble("bgco").draw(3, 8, torch.Generator().manual_seed(1))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = Ensemble("bgc").draw(3, 8, torch.Generator().manual_seed(1))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.maps, expected.maps) and torch.equal(found.colour, expected.colour)


def test_colour_and_cutout_can_be_differentiated_twice():
    """The sampling too: torch differentiates it twice on the CPU."""
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    transform = Ensemble("bgco").draw(2, 4, torch.Generator().manual_seed(0))
    assert (transform(x) == 0).any() and not torch.allclose(transform(x), x)
    assert torch.autograd.gradgradcheck(lambda x: transform(x).square(), x.requires_grad_())


def test_the_gradient_goes_through_the_sampling():
    ensemble = Ensemble("bgco")

    def transformed(x):
        return ensemble(x, x.detach(), torch.Generator().manual_seed(0))[0]

    assert torch.autograd.gradcheck(transformed, torch.randn(2, 4, 4, 4, dtype=torch.float64).requires_grad_())


def test_mistakes_are_errors():
    with pytest.raises(UserError, match="b, bg, bgc, bgco"):
        Ensemble("all")
    x = torch.zeros(2, 4, 8, 8)
    with pytest.raises(ValueError, match="1 transforms for 2 latents"):
        Ensemble("b").draw(1, 8)(x)
    x = torch.zeros(1, 4, 8, 16)
    with pytest.raises(ValueError, match="square"):
        Ensemble("b")(x, x)


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("preset", PRESETS)
def test_gradients_of_every_preset(preset, resampling):
    transform = Ensemble(preset, resampling).draw(2, 4, torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(transform, torch.randn(2, 3, 4, 4, dtype=torch.float64).requires_grad_())
