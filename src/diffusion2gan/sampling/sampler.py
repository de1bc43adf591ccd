"""How the models of a table sample: a teacher with its solver, a student in one step, a baseline as published."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from diffusion2gan.images import to_uint8
from diffusion2gan.pixel.model import PixelTeacher
from diffusion2gan.progress import track
from diffusion2gan.sampling.baselines import Baseline
from diffusion2gan.seeds import noise
from diffusion2gan.study.cli import option
from diffusion2gan.teacher import SOLVERS, Teacher, load_teacher

Sample = Callable[[Sequence[int], Sequence[str]], torch.Tensor]  # N seeds, N captions → images (N, 3, H, W) in [-1, 1]


@dataclass(kw_only=True)
class SamplingSettings:
    """What an image depends on besides its caption and its noise; the options of `sample.py`."""

    model: str = option(help="a student, a teacher or a published pipeline: a folder or a hub id")
    scheduler: str = option(
        default="student",
        help="student: its own single step; ddim, dpm-solver, heun: a teacher's; own, euler, lcm, rectified-flow: "
        "a published pipeline's",
    )
    steps: int = option(default=1, help="of the scheduler")
    guidance: float = option(default=0.0, help="classifier-free; up to 1 is none")
    spacing: str = option(default="own", help="of the steps: leading, linspace, trailing, or the pipeline's own")
    timesteps: list[int] = option(default_factory=list, help="of a published pipeline, in place of steps")
    prediction: str = option(default="own", help="what a published U-Net predicts, if not what its scheduler says")
    unet: str = option(default="", help="other weights for a published U-Net: a file, or REPOSITORY/FILE on the hub")
    resolution: int = option(default=0, help="pixels of a published pipeline's pictures; 0 is its own")

    @classmethod
    def of(cls, recipe: dict) -> "SamplingSettings":
        """The settings in a `sample.json`."""
        return cls(**{each.name: recipe[each.name] for each in fields(cls) if each.name in recipe})

    def precision(self, device: torch.device) -> torch.dtype:
        """Half precision for several steps on a GPU, else float32.

        A single step turns ε into x₀, which amplifies rounding errors 15-fold; EDM's last noise levels are too small
        for half precision.
        """
        half = device.type == "cuda" and self.steps > 1 and self.scheduler != "heun"
        return torch.float16 if half else torch.float32

    def load(self, device: torch.device) -> tuple[Sample, torch.nn.Module]:
        """Load the model: its sampling function, and the network that every step evaluates.

        Raises UserError if there is no such model.
        """
        dtype = self.precision(device)
        if self.scheduler not in (*SOLVERS, "heun"):
            how = {name: value for name, value in vars(self).items() if name in _HOW}
            baseline = Baseline(self.model, device, dtype, **how)
            return baseline.sample, baseline.denoiser
        teacher = load_teacher(self.model, device, dtype)
        return teacher_sampler(teacher, self.steps, self.guidance, self.scheduler, self.spacing), teacher.unet


_HOW = {each.name for each in fields(SamplingSettings)} - {"model"}


def teacher_sampler(
    teacher: Teacher | PixelTeacher, steps: int, guidance: float, solver: str, spacing: str = "own"
) -> Sample:
    """The function that samples with a teacher, or with a student loaded as one."""

    @torch.no_grad()
    def sample(seeds: Sequence[int], captions: Sequence[str]) -> torch.Tensor:
        z = noise(seeds, teacher.latent_shape)
        return teacher.decode(teacher.solve(z, captions, steps, guidance, solver, spacing))

    return sample


def sample_images(
    sample: Sample, seeds: Sequence[int], captions: Sequence[str], batch_size: int, description: str
) -> Iterator[np.ndarray]:
    """Images uint8 (H, W, 3), one for each seed and caption, sampled in batches; the progress shows `description`."""
    for first in track(range(0, len(seeds), batch_size), description):
        batch = slice(first, first + batch_size)
        yield from to_uint8(sample(seeds[batch], captions[batch]))
