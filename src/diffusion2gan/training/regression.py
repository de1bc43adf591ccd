"""Training of the student on the regression loss alone: ODE distillation (Sec. 3.1 and 3.2, Eq. 1 and 4)."""

import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from diffusion2gan.generator import Generator
from diffusion2gan.pairs import PairDataset
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.data_order import batch_indices
from diffusion2gan.training.update import update


@dataclass
class Batch:
    """Noise z and latents x (N, C, h, w), captions, and the conditions that G and D take by name."""

    z: torch.Tensor
    x: torch.Tensor
    captions: list[str]
    conditions: dict[str, torch.Tensor]


class RegressionTraining:
    """Fit G(z, c) to the teacher's x under a regression loss `(x0, x1) -> scalar`.

    The seed orders the pairs; `autocast` runs the networks in bfloat16. Optimizer settings are ours.
    """

    averaged = "student"

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        batch_size: int,
        learning_rate: float,
        seed: int,
        autocast: bool = False,
    ):
        self.student, self.pairs, self.loss = student.to(teacher.device).train(), pairs, loss
        self.batch_size, self.seed, self.device = batch_size, seed, teacher.device
        self.text = TextEmbeddings(teacher, pairs.captions.values())
        self.precision = torch.autocast(self.device.type, torch.bfloat16, enabled=autocast)
        self.modules = {"student": self.student}
        self.optimizers = {"student": adamw(self.student, learning_rate)}

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batch = self.batch(step)
        with self.precision:
            loss = self.loss(self.student(batch.z, **batch.conditions), batch.x)
        update(self.optimizers["student"], loss)
        return {"loss": loss.item(), **self.cost(step, start)}

    def batch(self, step: int) -> Batch:
        """The pairs of a step, on the training's device."""
        pairs = self.pairs.batch(batch_indices(step, self.batch_size, len(self.pairs), self.seed))
        conditions = {"text_embeddings": self.text(pairs.captions)}
        return Batch(pairs.z.to(self.device), pairs.x.to(self.device), pairs.captions, conditions)

    def cost(self, step: int, start: float) -> dict[str, float]:
        """Speed of this step, G's evaluations up to and with it, peak memory of the process in GiB."""
        seconds = time.perf_counter() - start
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.device) / 2**30
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {
            "images_per_second": self.batch_size / seconds,
            "generator_evaluations": (step + 1) * self.batch_size,
            "peak_memory_gib": memory,
        }


class TextEmbeddings:
    """The frozen text encoder, with a table of all captions' embeddings where these are few.

    The table is filled before training, not as captions come: an embedding's last bits depend on
    what it was encoded beside, which would then depend on where a training was resumed.
    """

    most_in_table = 4096  # 1 GB of Stable Diffusion's embeddings

    def __init__(self, teacher: Teacher, captions: Iterable[str]):
        self.teacher, self.rows = teacher, {}
        distinct = list(dict.fromkeys(captions))
        if len(distinct) <= self.most_in_table:
            parts = [teacher.encode_text(distinct[i : i + 64]) for i in range(0, len(distinct), 64)]
            self.table, self.rows = torch.cat(parts), {caption: row for row, caption in enumerate(distinct)}

    def __call__(self, captions: Sequence[str]) -> torch.Tensor:
        """Text embeddings (N, T, D)."""
        if not self.rows:
            return self.teacher.encode_text(captions)
        return self.table[[self.rows[caption] for caption in captions]]


def adamw(module: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """The optimizer of G and of D; the paper's is unknown."""
    return torch.optim.AdamW(module.parameters(), learning_rate, betas=(0.9, 0.999), weight_decay=0.01)  # ours
