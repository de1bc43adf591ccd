"""Distribution Matching Distillation (DMD, Yin et al. 2024): the scores of two diffusion models teach the student.

The teacher estimates the score of real latents. A second model, the fake denoiser, learns that of the student's latents
while the student changes. Their difference says how to move the student's distribution towards the teacher's.
"""

import copy
import time
from collections.abc import Sequence

import torch

from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.methods.denoising import guided, random_levels, random_noise
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import DMDSettings, Fitting
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.student import Losses, MicroBatch, StudentTraining, adamw

NOISED = 0.02, 0.98  # the timesteps of the distribution matching, as shares of all (Yin et al. 2024, Sec. 3.2)
Z, MATCHING, FAKE = range(3)  # mixed into the seed, one for each random draw


def matching_direction(x: torch.Tensor, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """The direction (N, C, h, w) against which distribution matching moves latents x (Yin et al. 2024, Eq. 7 and 8).

    `real` and `fake` are the x̂₀ of teacher and fake denoiser for the same noisy x. The scores differ by
    αₜ (x̂_fake - x̂_real) / σₜ². Dividing x̂_fake - x̂_real by mean|x - x̂_real| makes all timesteps move x about equally.
    """
    size = (x - real).abs().mean(dim=(1, 2, 3), keepdim=True)
    return (fake - real) / size


def denoising_loss(estimated: torch.Tensor, x: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """The error of an estimate of x, weighted as an error of ε: mean of ᾱ / (1 - ᾱ) |x̂₀ - x|² (Eq. 6), a scalar.

    `alpha_bar` is (N, 1, 1, 1).
    """
    return (alpha_bar / (1 - alpha_bar) * (estimated - x).square()).mean()


class DMDTraining(StudentTraining):
    """Each step improves G on distribution matching and λ times the regression, then the fake denoiser on G's latents.

    Distribution matching has fresh noise z for the captions of the pairs; the regression has the pairs. If `loss` is
    None, there is no regression.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss | None,
        settings: DMDSettings,
        fitting: Fitting | None = None,
    ):
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.scheduler = student.scheduler
        self.real = Generator(teacher.unet, self.scheduler)
        fake = self.fake_of(copy.deepcopy(self.real))
        fake = fake.to(torch.promote_types(teacher.unet.dtype, torch.float32)).requires_grad_(True)
        self.fake = self.add("fake", fake)
        self.optimizers["fake"] = adamw(fake, settings.fake_learning_rate)

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step; guidance takes two of the teacher, the regression one of the student."""
        n, generated = self.settings.batch_size, 1 if self.loss is None else 2
        return Evaluations(
            teacher_forward=n * (2 if self.settings.guidance > 1 else 1),
            student_forward=generated * n,
            student_backward=generated * n,
            fake_forward=2 * n,
            fake_backward=n,
        )

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)
        numbers, generated = self.generator_step(batches)
        numbers |= self.fake_step(batches, generated)
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)

    def generator_step(self, batches: Sequence[MicroBatch]) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        """Improve G once. Returns its losses, and the latents that it made from fresh noise, by micro-batch."""
        made = []

        def losses(batch: MicroBatch) -> Losses:
            x = self.generated(batch)
            made.append(x.detach())
            direction = self.direction(batch, x.detach())
            # its gradient with respect to x is the direction, as a mean over all elements
            matching_loss = 0.5 * (x - (x.detach() - direction)).square().mean()
            return {"matching_loss": (1.0, matching_loss)} | self.other_losses(batch, x)

        return self.improve("student", self.student, batches, losses), made

    def fake_step(self, batches: Sequence[MicroBatch], generated: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Improve the fake denoiser once on latents that G made. Returns its losses."""
        latents = iter(generated)
        return self.improve("fake", self.fake, batches, lambda batch: self.fake_losses(batch, next(latents)))

    def fake_of(self, teacher: Generator) -> Generator:
        """The fake denoiser, given a copy of the teacher."""
        return teacher

    def other_losses(self, batch: MicroBatch, x: torch.Tensor) -> Losses:
        """G's weighted losses beside distribution matching; `x` (N, C, h, w) are its latents of fresh noise."""
        if self.loss is None:
            return {}
        with self.precision():
            regression_loss = self.loss(self.generate(batch), batch.x, batch.part)  # Eq. 9
        return {"regression_loss": (self.settings.lambda_regression, regression_loss)}

    def fake_losses(self, batch: MicroBatch, x: torch.Tensor) -> Losses:
        """The weighted losses of the fake denoiser on latents x (N, C, h, w) that G made."""
        noisy, timesteps = self.noised(batch, x, FAKE, 0.0, 1.0)
        with self.precision():
            estimated = self.fake(noisy, timesteps=timesteps, **batch.conditions)
        return {"fake_loss": (1.0, denoising_loss(estimated, x, self.real.alpha_bar_at(timesteps)))}

    def generated(self, batch: MicroBatch) -> torch.Tensor:
        """G's latents (N, C, h, w) of fresh noise for the captions of the pairs."""
        with self.precision():
            return self.student(self.fresh_noise(batch), **batch.conditions)

    @torch.no_grad()
    def direction(self, batch: MicroBatch, x: torch.Tensor) -> torch.Tensor:
        """`matching_direction` at one timestep for each of G's latents x (N, C, h, w)."""
        noisy, timesteps = self.noised(batch, x, MATCHING, *NOISED)
        unconditional, guidance = self.teacher.unconditional, self.settings.guidance
        with self.full_precision():
            real = guided(self.real, noisy, timesteps, batch.conditions, unconditional, guidance)
            fake = self.fake(noisy, timesteps=timesteps, **batch.conditions)  # without guidance
        return matching_direction(x, real, fake)

    def fresh_noise(self, batch: MicroBatch) -> torch.Tensor:
        """Noise z (N, C, h, w) that belongs to no pair, another in each step."""
        return random_noise(batch, Z)

    def noised(
        self, batch: MicroBatch, x: torch.Tensor, number: int, first: float, last: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents (N, C, h, w) of x, and their timesteps (N,), uniform between two shares of all."""
        count = self.scheduler.config.num_train_timesteps
        lowest, highest = int(first * count), int(last * count)
        timesteps = (lowest + random_levels(batch, highest - lowest, number)).to(self.device)
        noise = random_noise(batch, number).to(x)
        return self.scheduler.add_noise(x, noise, timesteps), timesteps
