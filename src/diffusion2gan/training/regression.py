"""ODE distillation: the student learns the teacher's latents by a regression loss (Sec. 3.1 and 3.2, Eq. 1 and 4)."""

import time

import torch
from torch import nn

from diffusion2gan.evaluations import Evaluations
from diffusion2gan.training import distributed
from diffusion2gan.training.student import MAX_NORM, MicroBatch, StudentTraining


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

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        optimizer, batches = self.optimizers["student"], self.batches(step)
        mean_loss = 0.0

        optimizer.zero_grad()
        for batch in batches:
            with distributed.no_sync(self.student, batch is not batches[-1]):
                with self.precision():
                    loss = self.loss_of(batch) / len(batches)
                loss.backward()
            mean_loss += loss.detach()
        nn.utils.clip_grad_norm_(self.student.parameters(), MAX_NORM)
        optimizer.step()

        return {"loss": mean_loss.item()} | self.speed(step, start)
