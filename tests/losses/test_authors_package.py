"""The transforms against the authors' package: the same values for the same parameters, and the same distributions."""

import math

import pytest
import torch
from elatentlpips import ada_aug
from scipy.stats import ks_2samp
from transforms import ONE, shift, stretch, turn

from diffusion2gan.losses.ensemble import PRESETS, Ensemble, Transform, cutout, recolour

PARTS = {
    "b": ("xflip", "rotate90", "xint"),
    "g": ("scale", "rotate", "aniso", "xfrac"),
    "c": ("brightness", "contrast", "saturation"),
    "o": ("cutout",),
}
DRAWS = 10_000


def packages(preset: str) -> ada_aug.AdaAugment:
    """The package's transforms with the parts of a preset, each applied to every sample."""
    theirs = ada_aug.AdaAugment(**dict.fromkeys((part for letter in preset for part in PARTS[letter]), 1))
    theirs.p.fill_(1)
    return theirs


def at_percentile(preset: str, percentile: float, side: int) -> Transform:
    """Our transform in which every random number is at this percentile of its distribution."""
    p = torch.tensor([percentile])
    normal = torch.erfinv(2 * p - 1)  # the package's own scale of a normal percentile
    power, whole = torch.exp2(0.2 * normal), ((2 * p - 1) * side / 8).round() / side
    steps = [
        stretch(1 - 2 * torch.floor(2 * p), ONE),
        turn(-torch.floor(4 * p) * math.pi / 2),  # both draw turns from a symmetric distribution; its sign is theirs
        shift(whole, whole),
        stretch(power, power),
        turn((1 - 2 * p) * math.pi),
        stretch(power, 1 / power),
        shift(0.125 * normal, 0.125 * normal),
    ]
    maps = torch.eye(3, dtype=torch.float64)[None]
    for step in steps if "g" in preset else steps[:3]:
        maps = step(side) @ maps
    colour = torch.stack([p - 0.5, p + 0.5, 2 * p], 1) if "c" in preset else None
    return Transform(side, maps, colour, cutout(torch.stack([p, p], 1), side) if "o" in preset else None)


@pytest.mark.parametrize("shape", [(4, 64, 64), (4, 128, 128), (16, 32, 32)], ids=str)
@pytest.mark.parametrize("percentile", [0.3, 0.45, 0.55, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("preset", PRESETS)
def test_values_are_the_authors_packages(preset, percentile, shape, monkeypatch):
    """On white noise, with the same parameters, also at the edges.

    Between wavelets for `b` too. `Ensemble("b")` moves whole pixels without filters, on purpose (test_resampling.py).
    """
    x = torch.randn(1, *shape)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(_flat(size), percentile))  # for its colour
    expected, _ = packages(preset)(x, x, debug_percentile=percentile)
    moved = at_percentile(preset, percentile, shape[-1])(x)
    assert (moved - expected).abs().max() < 1e-4 * expected.abs().max()  # their places are computed in float32


def _flat(size: tuple) -> list[int]:
    return list(size[0]) if isinstance(size[0], (list, tuple, torch.Size)) else list(size)


def places(transformed: torch.Tensor) -> torch.Tensor:
    """The places (N, 2, 2, 2), across and along, that T reads for the four pixels in the middle, by ramps."""
    middle = transformed.shape[-1] // 2
    return transformed[:, :, middle - 1 : middle + 1, middle - 1 : middle + 1].double()


def backward_and_shift(read: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The linear part (N, 2, 2) of the way back, to the places (N, 2, 2, 2) read, and the shift (N, 2) after it."""
    linear = torch.stack([read[:, :, 0, 1] - read[:, :, 0, 0], read[:, :, 1, 0] - read[:, :, 0, 0]], 2)
    from_centre = read.mean((2, 3)) - (side - 1) / 2
    return linear, -torch.linalg.solve(linear, from_centre)


def parameters_of_maps(read: torch.Tensor, side: int) -> dict[str, torch.Tensor]:
    """Flip, scale, stretch, directions and shift of each map, from the places (N, 2, 2, 2) that it reads."""
    linear, shifted = backward_and_shift(read, side)
    after, sizes, before = torch.linalg.svd(linear)
    return {
        "flip": linear.det().sign(),
        "scale": sizes.log2().mean(1),
        "stretch": (sizes[:, 0] / sizes[:, 1]).log2(),
        "first turn": torch.atan2(after[:, 1, 0], after[:, 0, 0]) % math.pi,
        "second turn": torch.atan2(before[:, 0, 1], before[:, 0, 0]) % math.pi,
        "shift across": shifted[:, 0],
        "shift along": shifted[:, 1],
    }


def draws_of(transforms, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([transforms(part, part)[0] for part in x.expand(DRAWS, -1, -1, -1).split(500)])


def assert_alike(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]):
    """Two-sample Kolmogorov-Smirnov tests of every parameter, as many as there are: none rejects at 0.1 %."""
    rejected = {name: p for name in ours if (p := ks_2samp(ours[name], theirs[name], method="asymp").pvalue) < 1e-3}
    assert not rejected


def ramps(side: int) -> torch.Tensor:
    along, across = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    return torch.stack([across, along])[None]


def test_maps_of_bg_are_distributed_as_in_the_package():
    torch.manual_seed(0)
    x = ramps(8)
    both = (parameters_of_maps(places(draws_of(transforms, x)), 8) for transforms in (Ensemble("bg"), packages("bg")))
    assert_alike(*both)


def test_maps_of_b_are_distributed_as_in_the_package():
    torch.manual_seed(1)
    x, both = ramps(8), []
    for transforms in (Ensemble("b"), packages("b")):
        linear, shifted = (part.round() for part in backward_and_shift(places(draws_of(transforms, x)), 8))
        turned = torch.atan2(linear[:, 1, 0], linear[:, 0, 0])
        both.append({"turn": turned, "flip": linear.det(), "across": shifted[:, 0], "along": shifted[:, 1]})
    assert_alike(*both)


def test_colour_is_distributed_as_in_the_package():
    """Brightness moves the mean, contrast the deviations of the grey, saturation those of channels from the grey."""
    torch.manual_seed(2)
    x, both = torch.randn(1, 4, 4, 4), []

    def ours(x, _):
        colour = Ensemble("bgc").draw(len(x), 4).colour
        return (recolour(x, *colour.T[..., None, None, None]),)

    for transforms in (ours, packages("c")):
        y = draws_of(transforms, x)
        grey, new_grey = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        mean, new_mean = grey.mean(), new_grey.mean((1, 2, 3))
        contrast = (new_grey[:, 0, 0, 0] - new_mean) / (grey[0, 0, 0, 0] - mean)
        coloured = (y - new_grey)[:, 0, 0, 0] / (x - grey)[0, 0, 0, 0]
        both.append({"brightness": new_mean - mean, "contrast": contrast, "saturation": coloured / contrast})
    assert_alike(*both)


def test_boxes_are_distributed_as_in_the_package():
    torch.manual_seed(3)
    x, both = torch.ones(1, 1, 32, 32), []
    for transforms in (lambda x, _: (Ensemble("bgco").draw(len(x), 32).mask,), packages("o")):
        gone = draws_of(transforms, x)[:, 0] == 0
        both.append(
            {
                f"{edge} {axis}": edge_of.double()
                for axis, lines in (("row", gone.any(2)), ("column", gone.any(1)))
                for edge, edge_of in (("first", lines.int().argmax(1)), ("number", lines.sum(1)))
            }
        )
    assert_alike(*both)
