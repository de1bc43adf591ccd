"""Random differentiable transforms T of latents: the ensemble of E-LatentLPIPS (Sec. 3.2, Eq. 3).

The paper applies "random differentiable augmentations [ADA, DiffAugment], general geometric
transformations, and cutout" to both latents and leaves the details to its supplement. The four parts and
their distributions below are those of the authors' E-LatentLPIPS package. For each sample, all geometry is
one affine map and is resampled once, colour is one affine map of the channels, and cutout is one mask.
"""

import math
from dataclasses import dataclass
from typing import get_args

import torch

from diffusion2gan.choices import RESAMPLING, Preset
from diffusion2gan.errors import UserError
from diffusion2gan.losses.resampling import RESAMPLINGS, warp

PRESETS = get_args(Preset)


CPU = {"device": "cpu", "dtype": torch.float32}  # whatever torch's defaults are


class Ensemble:
    """The distribution of T: a preset of `PRESETS`, whose geometry is resampled by one of `RESAMPLINGS`.

    Raises UserError for any other name.
    """

    def __init__(self, preset: str, resampling: str = RESAMPLING):
        if preset not in PRESETS:
            raise UserError(f"no ensemble '{preset}': use one of {', '.join(PRESETS)}")
        if resampling not in RESAMPLINGS:
            raise UserError(f"no resampling '{resampling}': use one of {', '.join(RESAMPLINGS)}")
        # b alone moves whole pixels, which bilinear sampling does exactly
        self.preset, self.resampling = preset, resampling if "g" in preset else "bilinear"

    def __call__(
        self, x0: torch.Tensor, x1: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(T x0, T x1) for two batches (N, C, s, s): row i of both gets the same transform."""
        transform = self.draw(len(x0), x0.shape[-1], generator)
        return transform(x0), transform(x1)

    def draw(self, count: int, side: int, generator: torch.Generator | None = None) -> "Transform":
        """Sample `count` transforms for latents of size `side`, on the CPU, so they are the same on every machine."""

        def uniform(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(count, generator=generator, **CPU)

        def normal(deviation: float) -> torch.Tensor:
            return deviation * torch.randn(count, generator=generator, **CPU)

        def chance(ways: int) -> torch.Tensor:
            return torch.randint(ways, (count,), generator=generator, device="cpu").float()

        # ADA's pixel blitting (Karras et al. 2020, App. B): flip, quarter turn, shift by at most side / 8; p = 1
        flip, quarters = 1 - 2 * chance(2), chance(4)
        right, down = (uniform(-side / 8, side / 8).round() for _ in range(2))
        maps = affine(side, flip, torch.ones(count, **CPU), quarters * math.pi / 2, right, down)
        if "g" in self.preset:  # ADA's geometric transformations: scale, rotate, stretch, rotate, shift; p = 1
            still = torch.zeros(count, **CPU)
            scale, angle = torch.exp2(normal(0.2)), uniform(-math.pi, math.pi)
            maps = affine(side, scale, scale, angle, still, still) @ maps
            stretch, angle = torch.exp2(normal(0.2)), uniform(-math.pi, math.pi)
            right, down = (side * normal(0.125) for _ in range(2))
            maps = affine(side, stretch, 1 / stretch, angle, right, down) @ maps
        colour = mask = None
        if "c" in self.preset:  # DiffAugment (Zhao et al. 2020): brightness, contrast, saturation
            colour = torch.stack([uniform(-0.5, 0.5), uniform(0.5, 1.5), uniform(0, 2)], 1)
        if "o" in self.preset:  # one box of half the side (Cutout, DeVries & Taylor 2017)
            mask = cutout(torch.stack([uniform(0, 1), uniform(0, 1)], 1), side)
        return Transform(side, maps, colour, mask, self.resampling)


@dataclass(frozen=True)
class Transform:
    """N transforms for latents (C, s, s).

    `maps` (N, 3, 3) are affine maps of pixel coordinates (x, y), `colour` (N, 3) is brightness, contrast and
    saturation, `mask` (N, 1, s, s) is 0 where cutout removes a pixel and 1 elsewhere.
    """

    side: int
    maps: torch.Tensor
    colour: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    resampling: str = RESAMPLING

    def __getitem__(self, rows: slice) -> "Transform":
        """The transforms of some rows of the batch."""
        colour, mask = (None if part is None else part[rows] for part in (self.colour, self.mask))
        return Transform(self.side, self.maps[rows], colour, mask, self.resampling)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """T x for latents x (N, C, s, s), which are mirrored at their edges; in the dtype of x.

        Sampling coordinates are float32 (float64 for x in float64), even for x in half precision and under autocast.
        Raises ValueError if x has another number of latents, another height or another width.
        """
        if len(x) != len(self.maps):
            raise ValueError(f"there are {len(self.maps)} transforms for {len(x)} latents")
        if x.shape[2:] != (self.side, self.side):
            raise ValueError(f"the transforms are for square latents of side {self.side}, not {tuple(x.shape[2:])}")
        x = warp(x, self.maps, self.resampling)
        if self.colour is not None:
            x = recolour(x, *self.colour.to(x).T[..., None, None, None])
        return x if self.mask is None else x * self.mask.to(x)


def affine(
    side: int,
    scale_x: torch.Tensor,
    scale_y: torch.Tensor,
    angle: torch.Tensor,
    right: torch.Tensor,
    down: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Maps (N, 3, 3) of pixel coordinates (x, y): scale and then rotate about the centre, then shift.

    Scales (N,) are factors, and -1 is a flip; angles (N,) are radians, clockwise; shifts (N,) are in pixels.
    The maps are float64, which autocast does not round.
    """
    from kornia.geometry.transform import get_affine_matrix2d

    angle = angle.double().rad2deg()
    shifts, scales = torch.stack([right, down], 1).double(), torch.stack([scale_x, scale_y], 1).double()
    return get_affine_matrix2d(shifts, torch.full_like(scales, (side - 1) / 2), scales, angle)


def recolour(
    x: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor
) -> torch.Tensor:
    """Add brightness b, then scale by contrast c about each sample's mean, then by saturation s about its grey.

    This is s c x + c (1 - s) grey + (1 - c) mean + b for x (N, C, h, w) and factors (N, 1, 1, 1), where
    grey (N, 1, h, w) and mean (N, 1, 1, 1) are the means of x over channels and over everything.
    """
    grey = x.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    return saturation * contrast * x + (contrast * (1 - saturation) * grey + ((1 - contrast) * mean + brightness))


def cutout(centre: torch.Tensor, side: int) -> torch.Tensor:
    """Masks (N, 1, side, side), 0 in the square of half the side about (row, column) = centre (N, 2), else 1.

    A centre is in [0, 1]², so the square may extend over the edge.
    """
    places = (torch.arange(side, device=centre.device) + 0.5) / side
    outside = (places - centre[..., None]).abs() >= 0.25
    return (outside[:, 0, :, None] | outside[:, 1, None, :])[:, None].to(centre.dtype)
