"""The regression losses d(x0, x1) of Eq. 1, by the names the study gives them."""

from collections.abc import Callable
from pathlib import Path

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS, PixelLPIPS
from diffusion2gan.losses.regression import mse, pseudo_huber

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

POINTWISE = {"mse": mse, "pseudo_huber": pseudo_huber}
PERCEPTUAL = {"lpips": "pixel", "latent_lpips": "latent", "e_latent_lpips": "latent"}


def regression_loss(
    name: str,
    metric_file: Path | None = None,
    decode: Callable[[torch.Tensor], torch.Tensor] | None = None,
    preset: str = "bgco",
    device: torch.device | str = "cpu",
) -> Loss:
    """The loss of a name: (x0, x1) → scalar for scaled latents (N, C, h, w), x1 the target.

    A perceptual loss reads its calibrated metric from `metric_file`; `lpips` decodes with `decode`
    (scaled latents → pictures in [-1, 1]), `e_latent_lpips` draws its transforms from `preset`.
    Raises UserError when the name is unknown or the metric is missing or of the other space.
    """
    if name in POINTWISE:
        return POINTWISE[name]
    if name not in PERCEPTUAL:
        raise UserError(f"no loss '{name}': use one of {', '.join([*POINTWISE, *PERCEPTUAL])}")
    if metric_file is None:
        raise UserError(f"the loss {name} needs a calibrated metric: give its file as --lpips")
    metric = LPIPS.load(metric_file).to(device)
    if metric.space != PERCEPTUAL[name]:
        raise UserError(f"the loss {name} compares {PERCEPTUAL[name]}s, the metric {metric_file} {metric.space}s")
    if name == "lpips":
        distance = PixelLPIPS(metric, decode)
    elif name == "e_latent_lpips":
        distance = ELatentLPIPS(metric, Ensemble(preset))
    else:
        distance = metric
    return lambda x0, x1: distance(x0, x1).mean()
