"""Consistency Distillation (Song et al. 2023, Alg. 2): the baseline of Table 6."""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from diffusion2gan import images
from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.losses import BatchPart, Loss
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.pixel.edm import noise_levels
from diffusion2gan.pixel.heun import heun_step
from diffusion2gan.pixel.model import PixelGenerator, PixelTeacher
from diffusion2gan.sampling.folder import image_paths
from diffusion2gan.seeds import mix
from diffusion2gan.settings import ConsistencySettings, Fitting
from diffusion2gan.training.student import Losses, MicroBatch, StudentTraining


class ConsistencyTraining(StudentTraining):
    """Make f consistent along the teacher's ODE: minimise d(f(x + σ' z, σ'), f⁻(x̂, σ)) for neighbouring levels σ < σ'.

    x̂ is one step of Heun's method from x + σ' z; σ' is sampled from all noise levels but the lowest; d is the loss. The
    target f⁻ is a moving average of the student with decay μ = `settings.target_decay`; 0 makes it the student itself.
    `pairs` are real images x. Raises UserError if they have another shape, or if `shard` is set.
    """

    def __init__(
        self,
        student: PixelGenerator,
        teacher: PixelTeacher,
        pairs: "ImageDataset",
        loss: Loss,
        settings: ConsistencySettings,
        fitting: Fitting | None = None,
    ):
        if fitting and fitting.shard:
            raise UserError("Consistency Distillation keeps whole networks: leave out --shard")
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        # RAdam with its defaults: Song et al. 2023, Table 3, and their official settings
        self.optimizers = {"student": torch.optim.RAdam(student.parameters(), settings.learning_rate)}
        self.levels = noise_levels(settings.noise_levels)
        self.target = copy.deepcopy(student).to(self.device).requires_grad_(False)
        self.modules["target"] = self.target

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step; Heun's method takes two of the teacher."""
        n = self.settings.batch_size
        return Evaluations(teacher_forward=2 * n, student_forward=n, student_backward=n, target_forward=n)

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        # gradients are not clipped, as in the official training
        numbers = self.improve("student", self.student, self.batches(step), self.losses, clip=False)
        self.average_target()
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)

    def losses(self, batch: MicroBatch) -> Losses:
        """d(f(x + σ' z, σ'), f⁻(x̂, σ)), the only loss of a micro-batch."""
        noisy, sigma, target = self.neighbours(batch)
        with self.precision():
            return {"loss": (1.0, self.loss(self.student(noisy, sigma), target, batch.part))}

    def read(self, indices: torch.Tensor, part: BatchPart) -> MicroBatch:
        """The images at `indices`, with noise; if `settings.random_flip`, each is mirrored with probability 1/2."""
        batch = super().read(indices, part)
        generator = torch.Generator().manual_seed(part.seed)
        z = torch.randn(part.whole, *batch.x.shape[1:], generator=generator)[part.rows]
        if self.settings.random_flip:
            flipped = (torch.rand(part.whole, generator=generator) < 0.5)[part.rows].to(self.device)
            batch.x = torch.where(flipped[:, None, None, None], batch.x.flip(-1), batch.x)
        return replace(batch, z=z.to(self.device))

    @torch.no_grad()
    def neighbours(self, batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Noisy images (N, C, s, s), their noise levels σ' (N,), and the target f⁻(x̂, σ) (N, C, s, s)."""
        generator = torch.Generator().manual_seed(mix(batch.part.seed))
        drawn = torch.randint(len(self.levels) - 1, (batch.part.whole,), generator=generator)[batch.part.rows]
        sigma, nearer = (self.levels[drawn + down].to(batch.x) for down in (0, 1))
        noisy = batch.x + sigma[:, None, None, None] * batch.z
        with self.precision():
            solved = heun_step(self.teacher.unet, noisy, sigma, nearer)
            return noisy, sigma, self.target(solved, nearer)


class ImageDataset:
    """Real images of a folder in place of pairs; they have no noise."""

    evaluations = 0

    held_out = range(0)

    def __init__(self, folder: Path):
        self.files, self.captions = image_paths(folder), [""]
        self.images = np.stack([images.load_image(file) for file in self.files])

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int] | torch.Tensor) -> Pairs:
        """The images at `indices` (N,) as x (N, C, s, s) in [-1, 1]; z is empty."""
        x = images.to_tensor(self.images[np.asarray(indices)])
        return Pairs(torch.empty(len(x), 0), [""] * len(x), x)
