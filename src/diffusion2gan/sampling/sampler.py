"""How the models of a table sample: a teacher with its solver, a student, a baseline as published."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from diffusion2gan.images import to_uint8
from diffusion2gan.pixel.model import PixelTeacher
from diffusion2gan.progress import track
from diffusion2gan.sampling.baselines import Baseline
from diffusion2gan.seeds import noise
from diffusion2gan.settings import SamplingSettings
from diffusion2gan.teacher import SOLVERS, Teacher, load_teacher

Sampler = Callable[[Sequence[int], Sequence[str]], torch.Tensor]  # N seeds, N captions → images (N, 3, H, W) in [-1, 1]


def sampling_precision(settings: SamplingSettings, device: torch.device) -> torch.dtype:
    """Half precision for several steps on a GPU, else float32.

    A single step turns ε into x₀, which amplifies rounding errors 15-fold; EDM's last noise levels are too small
    for half precision.
    """
    half = device.type == "cuda" and settings.steps > 1 and settings.scheduler != "heun"
    return torch.float16 if half else torch.float32


def timing_precision(device: torch.device) -> torch.dtype:
    """Half precision on a GPU for every model, whatever its steps: one precision makes times comparable."""
    return torch.float16 if device.type == "cuda" else torch.float32


def load_sampler(
    settings: SamplingSettings, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[Sampler, torch.nn.Module]:
    """Load the model: its sampling function, and the network that every step evaluates.

    `dtype` is by default the precision that images are sampled in; a model in pixels is always float32.
    Raises UserError if there is no such model.
    """
    dtype = dtype or sampling_precision(settings, device)
    if settings.scheduler not in (*SOLVERS, "heun"):
        baseline = Baseline(settings.model, device, dtype, **settings.model_dump(exclude={"model"}))
        return baseline.sample, baseline.denoiser
    teacher = load_teacher(settings.model, device, dtype)
    sampler = teacher_sampler(teacher, settings.steps, settings.guidance, settings.scheduler, settings.spacing)
    return sampler, teacher.unet


def teacher_sampler(
    teacher: Teacher | PixelTeacher, steps: int, guidance: float, solver: str, spacing: str = "own"
) -> Sampler:
    """The function that samples with a teacher, or with a student loaded as one."""

    @torch.no_grad()
    def sample(seeds: Sequence[int], captions: Sequence[str]) -> torch.Tensor:
        z = noise(seeds, teacher.latent_shape)
        return teacher.decode(teacher.solve(z, captions, steps, guidance, solver, spacing))

    return sample


def sample_images(
    sampler: Sampler, seeds: Sequence[int], captions: Sequence[str], batches: Sequence[range], description: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Sample the images of some batches: yields each index i and image, uint8 (H, W, 3), from seed i and caption i.

    The progress shows `description`. Raises UserError if an image has pixels that are NaN or infinite.
    """
    for batch in track(batches, description):
        images = sampler([seeds[i] for i in batch], [captions[i] for i in batch])
        yield from zip(batch, to_uint8(images, f"{description}: image", batch), strict=True)
