"""Training of the student on the regression loss alone: ODE distillation (Sec. 3.1 and 3.2, Eq. 1 and 4)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.utils import save_image

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.io import atomic
from diffusion2gan.losses import Loss, Place
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.seeds import batch_indices, mix
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distributed
from diffusion2gan.training.distributed import Fitting
from diffusion2gan.training.text_cache import TextEmbeddings
from diffusion2gan.training.update import update

SHOWN = 8  # pairs in a sample grid                                                               # ours


@dataclass
class Batch:
    """Some rows of a step's batch: noise z and latents x (N, C, h, w), captions, and what G and D take by name."""

    z: torch.Tensor
    x: torch.Tensor
    captions: list[str]
    conditions: dict[str, torch.Tensor]
    place: Place
    generated: torch.Tensor | None = None  # G(z, c), where D judges it too


class RegressionTraining:
    """Fit G(z, c) to the teacher's x under a regression loss `(x0, x1, place) -> scalar`.

    `batch_size` counts the pairs of a step in all processes. The seed orders the pairs; `autocast` runs
    the networks in bfloat16. Optimizer settings are ours. Raises UserError when the pairs are not of the
    student's shape, or the batch does not divide.
    """

    averaged = "student"

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss,
        batch_size: int,
        learning_rate: float,
        seed: int,
        autocast: bool = False,
        fitting: Fitting | None = None,
    ):
        self.teacher, self.pairs, self.loss, self.device = teacher, pairs, loss, teacher.device
        self.batch_size, self.seed, self.fitting = batch_size, seed, fitting or Fitting()
        self.parts = distributed.parts(batch_size, self.fitting.accumulation)
        self.text = TextEmbeddings(teacher, pairs.captions)
        self.precision = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=autocast)
        if self.fitting.gradient_checkpointing and hasattr(teacher, "vae"):
            teacher.vae.enable_gradient_checkpointing()
        _check_shapes(student, pairs)
        self.modules, self.networks, self.optimizers = {}, {}, {}
        self.student = self.add("student", student, learning_rate)

    def add(self, name: str, module: nn.Module, learning_rate: float) -> nn.Module:
        """Train a module too; returns it as all processes compute it together."""
        if self.fitting.gradient_checkpointing and hasattr(module, "unet"):
            module.unet.enable_gradient_checkpointing()
        self.modules[name] = module.to(self.device).train()
        self.networks[name] = distributed.spread(module, self.fitting.shard)
        self.optimizers[name] = self.optimizer(module, learning_rate)
        return self.networks[name]

    def optimizer(self, module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """The optimizer of a module; the paper's is unknown."""
        return torch.optim.AdamW(module.parameters(), learning_rate, betas=(0.9, 0.999), weight_decay=0.01)  # ours

    @property
    def evaluations(self) -> Evaluations:
        """What a step evaluates; what gradient checkpointing computes again is not counted."""
        return Evaluations(student_forward=self.batch_size, student_backward=self.batch_size)

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)

        def terms(batch: Batch) -> dict[str, torch.Tensor]:
            with self.precision():
                return {"loss": self.loss(self.generate(batch), batch.x, batch.place)}

        return self.descend("student", batches, terms) | self.speed(step, start)

    def generate(self, batch: Batch) -> torch.Tensor:
        """G(z, c) of a batch."""
        with self.precision():
            return self.student(batch.z, **batch.conditions)

    def descend(
        self,
        name: str,
        batches: Sequence[Batch],
        terms: Callable[[Batch], dict[str, torch.Tensor]],
        penalty: Callable[[], dict[str, torch.Tensor]] = dict,
    ) -> dict[str, float]:
        """Step a network once down its loss; returns the means over the batches of all `terms`.

        The loss is the first of a batch's terms, averaged over the batches, and what the penalty adds,
        which every process computes alike.
        """
        numbers = Counter()

        def losses() -> Iterator[torch.Tensor]:
            for term, value in penalty().items():
                numbers[term] = value.detach()
                yield value
            for batch in batches:
                last = batch is batches[-1]  # the backward pass in which processes average their gradients
                with nullcontext() if last else distributed.unsynchronised(self.networks[name]):
                    computed = terms(batch)
                    numbers.update({term: value.detach() / len(batches) for term, value in computed.items()})
                    yield next(iter(computed.values())) / len(batches)

        update(self.optimizers[name], losses())
        return {term: value.item() for term, value in numbers.items()}

    def indices(self, step: int) -> torch.Tensor:
        """The pairs of a step, in all processes."""
        return batch_indices(step, self.batch_size, len(self.pairs), self.seed)

    def batches(self, step: int) -> list[Batch]:
        """This process's pairs of a step, a batch for each micro-batch, on the training's device."""
        indices, seed = self.indices(step), mix(self.seed, step, 1)
        return [self.read(indices[rows], Place(rows, self.batch_size, seed)) for rows in self.parts]

    def read(self, indices: torch.Tensor, place: Place) -> Batch:
        """The pairs at `indices`."""
        pairs = self.pairs.batch(indices)
        z, x = pairs.z.to(self.device), pairs.x.to(self.device)
        return Batch(z, x, pairs.captions, self.text(pairs.captions), place)

    def speed(self, step: int, start: float) -> dict[str, float]:
        """Pairs a second of this step, and G's evaluations up to and with it, of all processes."""
        return {
            "images_per_second": self.batch_size / (time.perf_counter() - start),
            "generator_evaluations": (step + 1) * self.evaluations.student_forward,
        }

    @torch.no_grad()
    def draw(self, path: Path) -> None:
        """Write the first pairs' pictures: the teacher's above, the student's of the same noise below."""
        count = min(SHOWN, len(self.pairs))
        batch = self.read(torch.arange(count), Place(slice(count), count, 0))
        pictures = [self.teacher.decode(latents) for latents in (batch.x, self.generate(batch))]
        if distributed.is_main():
            with atomic(path) as temporary:
                save_image(torch.cat(pictures), temporary, "png", nrow=count, normalize=True, value_range=(-1, 1))


def _check_shapes(student: Generator, pairs: PairDataset) -> None:
    """Raise UserError unless the pairs' latents are what the student makes."""
    config, (channels, *sides) = student.unet.config, pairs.batch(torch.tensor([0])).x.shape[1:]
    if [channels, *sides] != [config.in_channels, config.sample_size, config.sample_size]:
        raise UserError(
            f"the pairs are latents of {channels} × {' × '.join(map(str, sides))}, the student makes "
            f"{config.in_channels} × {config.sample_size} × {config.sample_size}: take pairs of its own teacher"
        )
