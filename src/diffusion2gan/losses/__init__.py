"""The regression losses d(x0, x1) of Eq. 1, by the names the study gives them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.losses.ensemble import Ensemble, Transform
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS, PixelLPIPS
from diffusion2gan.losses.regression import mse, pseudo_huber

Loss = Callable[..., torch.Tensor]

POINTWISE = {"mse": mse, "pseudo_huber": pseudo_huber}
PERCEPTUAL = {"lpips": "pixel", "latent_lpips": "latent", "e_latent_lpips": "latent"}


@dataclass(frozen=True)
class Place:
    """The rows of a batch of `whole` samples that are compared at a time, and the seed of the batch's transforms."""

    rows: slice
    whole: int
    seed: int


class WholeEnsemble(Ensemble):
    """An ensemble that draws for the whole batch, so that no transform depends on how the batch is cut.

    Takes a Place where others take a generator; without one the samples at hand are all there are.
    """

    def draw(self, x: torch.Tensor, place: Place | None = None) -> Transform:
        """The transforms of a batch x (N, C, s, s) of the N rows of a place."""
        if place is None:
            return super().draw(x)
        batch = x[:1].expand(place.whole, *x.shape[1:])
        drawn = super().draw(batch, torch.Generator().manual_seed(place.seed))
        colour = None if drawn.colour is None else drawn.colour[:, place.rows]
        mask = None if drawn.mask is None else drawn.mask[place.rows]
        return Transform(drawn.grid[place.rows], colour, mask)


def regression_loss(
    name: str,
    metric_file: Path | None = None,
    decode: Callable[[torch.Tensor], torch.Tensor] | None = None,
    preset: str = "bgco",
    device: torch.device | str = "cpu",
    side: int = 0,
) -> Loss:
    """The loss of a name: (x0, x1, place) → scalar for scaled latents (N, C, h, w), x1 the target.

    `place` says which rows of which batch they are; without it they are a batch of their own.
    A perceptual loss reads its calibrated metric from `metric_file`; `lpips` decodes with `decode`
    (scaled latents → pictures in [-1, 1]) and resizes to `side` pixels where given, `e_latent_lpips` draws its
    transforms from `preset`. Raises UserError when the name is unknown or the metric is missing or of the other space.
    """
    if name in POINTWISE:
        return lambda x0, x1, place=None: POINTWISE[name](x0, x1)
    if name not in PERCEPTUAL:
        raise UserError(f"no loss '{name}': use one of {', '.join([*POINTWISE, *PERCEPTUAL])}")
    if metric_file is None:
        raise UserError(f"the loss {name} needs a calibrated metric: give its file as --lpips")
    metric = LPIPS.load(metric_file).to(device)
    if metric.space != PERCEPTUAL[name]:
        raise UserError(f"the loss {name} compares {PERCEPTUAL[name]}s, the metric {metric_file} {metric.space}s")
    if name == "e_latent_lpips":
        ensembled = ELatentLPIPS(metric, WholeEnsemble(preset))
        return lambda x0, x1, place=None: ensembled(x0, x1, place).mean()
    distance = PixelLPIPS(metric, decode, side) if name == "lpips" else metric
    return lambda x0, x1, place=None: distance(x0, x1).mean()
