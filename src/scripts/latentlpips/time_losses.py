"""Figure 2: time and memory of one step of each perceptual loss, as a whole and part by part.

A step is the loss of a batch and its gradient to the student's latents. The trunks have random weights,
because speed does not depend on them. E-LatentLPIPS is timed with every resampling; without a name in brackets, the
resampling is the default.
"""

from pathlib import Path

import pandas as pd
import torch
from pydantic import Field

from diffusion2gan import provenance
from diffusion2gan.choices import PRESET, RESAMPLING
from diffusion2gan.io import atomic, write_json
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS, PixelLPIPS
from diffusion2gan.losses.resampling import RESAMPLINGS
from diffusion2gan.metrics.speed import extra_memory, seconds
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import LossTimingSettings, Positive
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher


class Arguments(LossTimingSettings):
    teacher: str
    width: Positive = Field(description="width of the VGG, as a multiple of VGG-16's")
    out: Path
    hardware: Path


def main(args: Arguments):
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = Teacher(args.teacher, device)
    channels, height, width = teacher.latent_shape
    pixel, latent = (random_metric(*of, args.width).to(device) for of in (("pixel", 3), ("latent", channels)))
    ensembles = {
        "E-LatentLPIPS" if resampling == RESAMPLING else f"E-LatentLPIPS ({resampling})": Ensemble(PRESET, resampling)
        for resampling in RESAMPLINGS
    }
    latents = torch.randn(2, args.batch_size, channels, height, width, device=device)
    with torch.no_grad():
        pictures = torch.stack([teacher.decode(x) for x in latents])

    def both(decode):
        return lambda x0, x1: decode(x0).mean() + _without_gradient(decode, x1).mean()

    def augmented(transform):
        return lambda x0, x1: sum(x.mean() for x in transform(x0, x1))

    losses = {
        "LPIPS": {"total": (PixelLPIPS(pixel, teacher.decode), latents), "decode": (both(teacher.decode), latents),
                  "trunk": (pixel, pictures)},
        "LatentLPIPS": {"total": (latent, latents), "trunk": (latent, latents)},
    }  # fmt: skip
    for name, ensemble in ensembles.items():
        losses[name] = {
            "total": (ELatentLPIPS(latent, ensemble), latents),
            "augmentation": (augmented(ensemble), latents),
            "trunk": (latent, latents),
        }
    rows = []
    for name, parts in losses.items():
        for part, (loss, inputs) in parts.items():
            step = a_step(loss, inputs, args.autocast)
            row = {"loss": name, "part": part, "milliseconds": 1e3 * seconds(step, 2, args.repeats).median}
            if part == "total":
                row["mebibytes"] = extra_memory(step, device) / 2**20
            rows.append(row)
    with atomic(args.out) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    settings = cli.settings_of(args, ["teacher", "width", "batch_size", "repeats", "autocast"])
    write_json(args.hardware, settings | provenance.record(settings, device))


def random_metric(space: str, channels: int, width: float) -> LPIPS:
    """A metric with random weights."""
    trunk = VGG(space, channels, 0, width)
    return LPIPS(trunk, [torch.rand(channels) for channels in trunk.widths])


def a_step(loss, inputs: torch.Tensor, autocast: bool):
    """One call of a loss on two batches, and its gradient to the first."""

    def step():
        x0 = inputs[0].detach().requires_grad_()
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=autocast):
            value = loss(x0, inputs[1]).mean()
        value.backward()

    return step


@torch.no_grad()
def _without_gradient(function, x: torch.Tensor) -> torch.Tensor:
    return function(x)


if __name__ == "__main__":
    cli.run(main)
