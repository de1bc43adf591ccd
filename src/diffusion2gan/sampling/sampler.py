"""Sampling of a row of a table: a teacher with its solver, a student in one step, a baseline as published."""

from collections.abc import Callable, Sequence

import torch

from diffusion2gan.sampling.baselines import Peer
from diffusion2gan.seeds import noise
from diffusion2gan.settings import SamplingSettings
from diffusion2gan.teacher import SOLVERS, load_teacher


def precision(settings: SamplingSettings, device: torch.device) -> torch.dtype:
    """One step turns ε into x₀, which amplifies rounding fifteenfold: it is never in half precision.

    Nor is EDM, whose last noise levels are finer than that.
    """
    half = device.type == "cuda" and settings.steps > 1 and settings.scheduler != "heun"
    return torch.float16 if half else torch.float32


def load(
    settings: SamplingSettings, device: torch.device
) -> tuple[Callable[[Sequence[int], Sequence[str]], torch.Tensor], torch.nn.Module]:
    """`sample(seeds, captions)` → images (N, 3, H, W), about [-1, 1]; and the network that every step evaluates.

    Raises UserError when there is no such model.
    """
    dtype = precision(settings, device)
    if settings.scheduler not in (*SOLVERS, "heun"):
        baseline = Peer(settings.model, device, dtype, **settings.model_dump(exclude={"model"}))
        return baseline.draw, baseline.denoiser
    teacher = load_teacher(settings.model, device, dtype)

    @torch.no_grad()
    def sample(seeds: Sequence[int], captions: Sequence[str]) -> torch.Tensor:
        z = noise(seeds, teacher.latent_shape)
        how = settings.steps, settings.guidance, settings.scheduler, settings.spacing
        return teacher.decode(teacher.solve(z, captions, *how))

    return sample, teacher.unet
