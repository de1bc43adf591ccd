"""Random differentiable transforms T of latents: the ensemble of E-LatentLPIPS (Sec. 3.2, Eq. 3).

The paper applies "random differentiable augmentations [ADA, DiffAugment], general geometric
transformations, and cutout" to both latents and leaves the set to its supplement. The four parts and
their distributions below are those of the authors' E-LatentLPIPS package. All geometry of a sample
is one affine map and one bilinear sampling (theirs filters with wavelets; this does not, ours), all
colour one affine map of the channels, cutout one mask.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from diffusion2gan.errors import UserError

# b: flips, quarter turns, shifts by whole pixels. g: any scale, turn and shift. c: colour. o: cutout.
PRESETS = ("b", "bg", "bgc", "bgco")


class Ensemble:
    """A preset of parts, of which every sample gets a new draw at every call.

    Raises UserError when there is no such preset.
    """

    def __init__(self, preset: str):
        if preset not in PRESETS:
            raise UserError(f"no ensemble '{preset}': use one of {', '.join(PRESETS)}")
        self.preset = preset

    def __call__(
        self, x0: torch.Tensor, x1: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(T x0, T x1) of two batches (N, C, s, s), with one draw T for a sample of both."""
        transform = self.draw(x0, generator)
        return transform(x0), transform(x1)

    def draw(self, x: torch.Tensor, generator: torch.Generator | None = None) -> "Transform":
        """Random transforms of a batch x (N, C, s, s), from a generator on the CPU, so alike on every machine.

        Raises ValueError when x is not square: a quarter turn would not fit.
        """
        count, _, side, width = x.shape
        if side != width:
            raise ValueError(f"the ensemble needs square latents, not {side} × {width}")

        def uniform(low: float, high: float) -> torch.Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        def normal(deviation: float) -> torch.Tensor:
            return deviation * torch.randn(count, generator=generator)

        def chance(ways: int) -> torch.Tensor:
            return torch.randint(ways, (count,), generator=generator).float()

        maps, still = [], torch.zeros(count)
        if "b" in self.preset:  # ADA's pixel blitting (Karras et al. 2020, App. B): p = 1, shift of at most 1/8
            maps.append(stretch(1 - 2 * chance(2), still + 1))
            maps.append(turn(chance(4) * (math.pi / 2)))
            maps.append(shift(*((uniform(-side / 8, side / 8)).round() / side for _ in range(2))))
        if "g" in self.preset:  # ADA's general geometric transformations: p = 1
            scale = torch.exp2(normal(0.2))
            maps.append(stretch(scale, scale))
            maps.append(turn(uniform(-math.pi, math.pi)))
            scale = torch.exp2(normal(0.2))
            maps.append(stretch(scale, 1 / scale))
            maps.append(turn(uniform(-math.pi, math.pi)))
            maps.append(shift(normal(0.125), normal(0.125)))
        colour = None
        if "c" in self.preset:  # DiffAugment (Zhao et al. 2020): brightness, contrast, saturation
            colour = torch.stack([uniform(-0.5, 0.5), uniform(0.5, 1.5), uniform(0, 2)]).to(x)
        mask = None
        if "o" in self.preset:  # one box of half the side (Cutout, DeVries & Taylor 2017)
            mask = cutout(torch.stack([uniform(0, 1), uniform(0, 1)], 1).to(x), side)
        return Transform(sampling_grid([part.to(x) for part in maps], side), colour, mask)


@dataclass
class Transform:
    """One draw for a batch: where each pixel is read (N, s, s, 2), colour (3, N), kept pixels (N, 1, s, s)."""

    grid: torch.Tensor
    colour: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """T x, of the shape (N, C, s, s) of x; what lies outside is x reflected at its edges.

        Colour and cutout can be differentiated twice, the sampling (as all of torch's) once.
        """
        x = F.grid_sample(x, self.grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        if self.colour is not None:
            x = recolour(x, *self.colour[:, :, None, None, None])
        return x if self.mask is None else x * self.mask


def recolour(
    x: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor
) -> torch.Tensor:
    """Add brightness, scale by contrast about the sample's mean and by saturation about the mean of the channels.

    The three in a row are s c x + c (1 - s) grey + (1 - c) mean + b, where grey (N, 1, h, w) and
    mean (N, 1, 1, 1) are the means of x over channels and over everything.
    """
    grey = x.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    return saturation * contrast * x + (contrast * (1 - saturation) * grey + ((1 - contrast) * mean + brightness))


def cutout(centre: torch.Tensor, side: int) -> torch.Tensor:
    """Masks (N, 1, side, side), 0 in the square of half the side about (row, column) = centre (N, 2), else 1.

    A centre is in [0, 1]², so that the square may reach over the edge.
    """
    places = (torch.arange(side, device=centre.device) + 0.5) / side
    outside = (places - centre[..., None]).abs() >= 0.25
    return (outside[:, 0, :, None] | outside[:, 1, None, :])[:, None].to(centre.dtype)


def sampling_grid(maps: list[torch.Tensor], side: int) -> torch.Tensor:
    """Where the transformed picture reads the original: a grid (N, side, side, 2) for maps done in their order."""
    composed = maps[0]
    for following in maps[1:]:
        composed = following @ composed
    inverse = torch.linalg.inv(composed)[:, :2]
    return F.affine_grid(inverse, [len(inverse), 1, side, side], align_corners=False)


def stretch(horizontal: torch.Tensor, vertical: torch.Tensor) -> torch.Tensor:
    """Maps (N, 3, 3) that scale by factors (N,) about the centre; -1 is a flip."""
    return torch.diag_embed(torch.stack([horizontal, vertical, torch.ones_like(vertical)], 1))


def turn(angle: torch.Tensor) -> torch.Tensor:
    """Maps (N, 3, 3) that turn clockwise by angles (N,) in radians about the centre."""
    cosine, sine = angle.cos(), angle.sin()
    maps = stretch(cosine, cosine)
    maps[:, 0, 1], maps[:, 1, 0] = -sine, sine
    return maps


def shift(right: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Maps (N, 3, 3) that shift by shares (N,) of the side."""
    maps = stretch(torch.ones_like(right), torch.ones_like(down))
    maps[:, 0, 2], maps[:, 1, 2] = 2 * right, 2 * down  # the side is 2 long in torch's coordinates
    return maps
