"""The regression losses d(x0, x1) of Eq. 1 by name: the rows of Table 1."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS, PixelLPIPS

if TYPE_CHECKING:  # the losses can be imported without pydantic
    from diffusion2gan.settings import LossSettings

Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class BatchPart:
    """A part of a batch: its rows among all `whole` samples, and the seed of the transforms of the whole batch."""

    rows: slice
    whole: int
    seed: int


def l1(x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of two batches of the same shape, a scalar: Sec. 4.1 names it, Table 1 does not."""
    return F.l1_loss(x0, x1)


def mse(x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
    """Mean squared error of two batches of the same shape (Luhman & Luhman 2021), a scalar."""
    return F.mse_loss(x0, x1)


def pseudo_huber(x0: torch.Tensor, x1: torch.Tensor, c: float | None = None) -> torch.Tensor:
    """Mean over the batch of √(‖x0 - x1‖² + c²) - c, with the norm of each sample; a scalar.

    Song & Dhariwal 2024 ("Improved techniques for training consistency models", Eq. 7); c defaults
    to their 0.00054 √d for samples of d numbers.
    """
    squared = (x0 - x1).square().flatten(1).sum(1)
    c = 0.00054 * math.sqrt(x0[0].numel()) if c is None else c
    return ((squared + c**2).sqrt() - c).mean()


POINTWISE = {"l1": l1, "mse": mse, "pseudo_huber": pseudo_huber}
PERCEPTUAL = {"lpips": "pixel", "latent_lpips": "latent", "e_latent_lpips": "latent"}


def regression_loss(
    settings: "LossSettings",
    metric_file: Path | LPIPS | None = None,
    decode: Callable[[torch.Tensor], torch.Tensor] | None = None,
    device: torch.device | str = "cpu",
    side: int = 0,
) -> Loss:
    """The loss that `settings.loss` names: (x0, x1, part) → scalar for scaled latents (N, C, h, w).

    x1 is the target. `part` says which rows of a batch x0 and x1 are; without it they are a whole batch.
    A perceptual loss needs a calibrated metric: `metric_file` is its file, or the metric itself. `lpips` decodes with
    `decode` (scaled latents → images in [-1, 1]) and resizes to `side` pixels if given; `e_latent_lpips` averages over
    `settings.draws` transforms of the preset `settings.ensemble`. Raises UserError if the metric is missing, or if it
    compares latents where the loss compares pixels, or the reverse.
    """
    name = settings.loss
    if name in POINTWISE:
        return lambda x0, x1, part=None: POINTWISE[name](x0, x1)
    if metric_file is None:
        raise UserError(f"the loss {name} needs a calibrated metric: give its file as --lpips")
    metric = (metric_file if isinstance(metric_file, LPIPS) else LPIPS.load(metric_file)).to(device)
    if metric.space != PERCEPTUAL[name]:
        raise UserError(
            f"the loss {name} compares {PERCEPTUAL[name]}s, but the metric {metric_file} compares {metric.space}s: "
            "give another metric as --lpips"
        )
    if name != "e_latent_lpips":
        distance = PixelLPIPS(metric, decode, side) if name == "lpips" else metric
        return lambda x0, x1, part=None: distance(x0, x1).mean()
    ensembled = ELatentLPIPS(metric, Ensemble(settings.ensemble, settings.resampling), draws=settings.draws)

    def loss(x0: torch.Tensor, x1: torch.Tensor, part: BatchPart | None = None) -> torch.Tensor:
        if part is None:
            return ensembled(x0, x1).mean()
        generator = torch.Generator().manual_seed(part.seed)
        return ensembled(x0, x1, generator, batch=part.whole, rows=part.rows).mean()

    return loss
