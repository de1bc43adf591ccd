"""Consistency Distillation (Song et al. 2023, Alg. 2), the baseline of Table 6, in the regression's training loop."""

import copy
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diffusion2gan import images
from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.losses import Place
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.pixel.edm import noise_levels
from diffusion2gan.pixel.heun import heun_step
from diffusion2gan.pixel.model import PixelGenerator
from diffusion2gan.sampling.folder import image_paths
from diffusion2gan.seeds import mix
from diffusion2gan.training.regression import Batch, RegressionTraining


class ConsistencyTraining(RegressionTraining):
    """Make f consistent along the teacher's ODE: minimise d(f(x + σ' z, σ'), f⁻(x̂, σ)) for neighbouring levels σ < σ'.

    x̂ is one step of Heun's method from x + σ' z; σ' is any but the lowest of `levels` noise levels; d is the loss. The
    target f⁻ is a moving average of the student with decay μ = `target_decay`; 0 makes it the student itself.
    `regression` are the arguments of RegressionTraining; its pairs are real images x here. Raises UserError if the
    images have another size, or if the student is sharded.
    """

    def __init__(self, levels: int, target_decay: float, student: PixelGenerator, **regression):
        super().__init__(student=student, **regression)
        if self.fitting.shard:
            raise UserError("Consistency Distillation keeps whole networks: leave out --shard")
        self.levels, self.target_decay = noise_levels(levels), target_decay
        self.target = copy.deepcopy(student).to(self.device).requires_grad_(False)
        self.modules["target"] = self.target

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)

        def terms(batch: Batch) -> dict[str, torch.Tensor]:
            noisy, sigma, target = self.neighbours(batch)
            with self.precision():
                return {"loss": self.loss(self.student(noisy, sigma), target, batch.place)}

        numbers = self.descend("student", batches, terms)
        self._follow()
        return numbers | self.speed(step, start)

    def read(self, indices: torch.Tensor, place: Place) -> Batch:
        """The images at `indices` and their noise."""
        pictures = self.pairs.batch(indices)
        drawn = torch.randn(place.whole, *pictures.x.shape[1:], generator=torch.Generator().manual_seed(place.seed))
        x, z = pictures.x.to(self.device), drawn[place.rows].to(self.device)
        return Batch(z, x, pictures.captions, {}, place)

    @torch.no_grad()
    def neighbours(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Noisy images x + σ' z (N, C, s, s), their levels σ' (N,), and the target f⁻(x̂, σ) of the next lower level."""
        generator = torch.Generator().manual_seed(mix(batch.place.seed))
        drawn = torch.randint(len(self.levels) - 1, (batch.place.whole,), generator=generator)[batch.place.rows]
        sigma, nearer = (self.levels[drawn + down].to(batch.x) for down in (0, 1))
        noisy = batch.x + sigma[:, None, None, None] * batch.z
        with self.precision():
            solved = heun_step(self.teacher.unet, noisy, sigma, nearer)
            return noisy, sigma, self.target(solved, nearer)

    @property
    def evaluations(self) -> Evaluations:
        """Evaluations of a step; Heun's step takes two of the teacher."""
        n = self.batch_size
        return Evaluations(teacher_forward=2 * n, student_forward=n, student_backward=n, target_forward=n)

    def optimizer(self, module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Rectified Adam, as Song et al. 2023, Table 3."""
        return torch.optim.RAdam(module.parameters(), learning_rate)

    @torch.no_grad()
    def _follow(self) -> None:
        """θ⁻ ← μ θ⁻ + (1 - μ) θ."""
        theirs, ours = list(self.target.parameters()), list(self.modules["student"].parameters())
        torch._foreach_lerp_(theirs, ours, 1 - self.target_decay)


class ImageDataset:
    """Real images of a folder in place of pairs; they have no noise."""

    evaluations = 0

    def __init__(self, folder: Path):
        self.files, self.captions = image_paths(folder), [""]
        self.images = np.stack([images.load_image(file) for file in self.files])

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int] | torch.Tensor) -> Pairs:
        """The images at `indices` (N,) as x, in [-1, 1]; z is empty."""
        x = images.to_tensor(self.images[np.asarray(indices)])
        return Pairs(torch.empty(len(x), 0), [""] * len(x), x)
