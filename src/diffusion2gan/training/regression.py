"""ODE distillation: the student learns the teacher's latents by a regression loss (Sec. 3.1 and 3.2, Eq. 1 and 4)."""

import time

import torch

from diffusion2gan.evaluations import Evaluations
from diffusion2gan.training.student import Losses, MicroBatch, StudentTraining


class RegressionTraining(StudentTraining):
    """Fit G(z, c) to the teacher's x: E d(G(z, c), x) (Eq. 1)."""

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step. Recomputation by gradient checkpointing is not counted."""
        count = self.settings.batch_size
        return Evaluations(student_forward=count, student_backward=count)

    def loss_of(self, batch: MicroBatch) -> torch.Tensor:
        """The loss of a micro-batch, a scalar."""
        return self.loss(self.generate(batch), batch.x, batch.part)

    def losses(self, batch: MicroBatch) -> Losses:
        """The losses of a micro-batch: one."""
        with self.precision():
            return {"loss": (1.0, self.loss_of(batch))}

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        numbers = self.improve("student", self.student, self.batches(step), self.losses)
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)
