"""Training of the student as a conditional GAN: regression and adversarial loss together (Sec. 3.3)."""

import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from diffusion2gan.discriminators.mix_and_match import Fractions, Mix, mix_and_match, other_caption
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.losses import Place
from diffusion2gan.losses.adversarial import discriminator_loss, generator_loss, rejection_loss
from diffusion2gan.training import distributed
from diffusion2gan.training.regression import Batch, RegressionTraining


@dataclass(frozen=True)
class Adversary:
    """How D is trained and how much G heeds it; only R1's interval of 16 is the paper's, the rest ours.

    `r1_gamma` None leaves R1 out, `mix` None mix-and-match. `matching_aware` adds GigaGAN's loss.
    """

    learning_rate: float
    lambda_gan: float
    r1_gamma: float | None = None
    r1_every: int = 16
    mix: Fractions | None = None
    matching_aware: bool = False


@dataclass
class Fake:
    """What D is to call fake: latents and noise (N, C, h, w), and conditions by name."""

    latents: torch.Tensor
    z: torch.Tensor
    conditions: dict[str, torch.Tensor]


class AdversarialTraining(RegressionTraining):
    """Each step improves D, then G on L = L_regression + λ_GAN · L_GAN, on the same pairs.

    `regression` are the arguments of RegressionTraining.
    """

    def __init__(self, discriminator: nn.Module, adversary: Adversary, **regression):
        super().__init__(**regression)
        self.adversary = adversary
        self.judge_alone = distributed.alone(discriminator, self.fitting.shard)
        self.discriminator = self.add("discriminator", discriminator, adversary.learning_rate)

    @property
    def evaluations(self) -> Evaluations:
        """What a step evaluates: of several micro-batches G draws each again for its own loss."""
        again = 1 if len(self.parts) == 1 else 2
        return Evaluations(student_forward=again * self.batch_size, student_backward=self.batch_size)

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)
        with torch.set_grad_enabled(len(batches) == 1):  # of several, the graphs would not fit: G draws them again
            for batch in batches:
                batch.generated = self.generate(batch)
        numbers = self._improve_discriminator(step, batches)
        return numbers | self._improve_generator(batches) | self.speed(step, start)

    def _improve_discriminator(self, step: int, batches: Sequence[Batch]) -> dict[str, float]:
        judge, adversary, indices = self.discriminator, self.adversary, self.indices(step)
        captions = distributed.everyones([caption for batch in batches for caption in batch.captions])
        mix = mix_and_match(captions, adversary.mix) if adversary.mix else None
        other = other_caption(captions) if adversary.matching_aware else None

        def terms(batch: Batch) -> dict[str, torch.Tensor]:
            fake = Fake(batch.generated.detach(), batch.z, batch.conditions)
            mixed = self._mixed(mix, batch, fake, indices, captions) if mix else fake
            with self.precision():
                real = judge(batch.x, batch.z, **batch.conditions)
                loss = discriminator_loss(real, judge(mixed.latents, mixed.z, **mixed.conditions))
            if other is not None:
                loss = loss + self._matching_loss(batch, fake.latents, other, captions)
            return {"discriminator_loss": loss}

        def penalty() -> dict[str, torch.Tensor]:
            if adversary.r1_gamma is None or step % adversary.r1_every:
                return {}
            one = self.read(indices[:1], Place(slice(1), self.batch_size, 0))
            lazy = {"gamma": adversary.r1_gamma, "every": adversary.r1_every}
            return {"r1": single_sample_r1(self.judge_alone, one.x, one.z, **lazy, **one.conditions)}

        return self.descend("discriminator", batches, terms, penalty)

    def _mixed(self, mix: Mix, batch: Batch, generated: Fake, indices: torch.Tensor, captions: Sequence[str]) -> Fake:
        """The triples at a batch's places, of which some are mismatched; what they borrow is read by its index."""
        rows = batch.place.rows
        x = self.pairs.batch(indices[mix.latent[rows]]).x.to(self.device)
        z = self.pairs.batch(indices[mix.noise[rows]]).z.to(self.device)
        target = mix.target[rows].to(self.device).view(-1, 1, 1, 1)
        text = [captions[row] for row in mix.text[rows].tolist()]
        return Fake(torch.where(target, x, generated.latents), z, self.text(text))

    def _matching_loss(
        self, batch: Batch, generated: torch.Tensor, other: torch.Tensor, captions: Sequence[str]
    ) -> torch.Tensor:
        """GigaGAN's matching-aware loss: real and generated latents are fake beside another's text."""
        rows, mismatched = batch.place.rows, other != torch.arange(len(other))
        if not mismatched.any():
            return generated.new_zeros(())
        share = mismatched[rows].float().mean() / mismatched.float().mean()  # the mean is over those of the whole batch
        here = mismatched[rows] if share else torch.ones(len(batch.x), dtype=torch.bool)  # all processes call D alike
        text = self.text([captions[row] for row in other[rows][here].tolist()])
        with self.precision():
            judged = [self.discriminator(latents[here], batch.z[here], **text) for latents in (batch.x, generated)]
            return share.item() * sum(rejection_loss(logits) for logits in judged)

    def _improve_generator(self, batches: Sequence[Batch]) -> dict[str, float]:
        judge = self.modules["discriminator"]  # its weights get no gradient, so there is nothing to average

        def terms(batch: Batch) -> dict[str, torch.Tensor]:
            x = batch.generated if batch.generated.requires_grad else self.generate(batch)
            with self.precision():
                regression = self.loss(x, batch.x, batch.place)
                gan = generator_loss(judge(x, batch.z, **batch.conditions))
            loss = regression + self.adversary.lambda_gan * gan
            return {"loss": loss, "regression_loss": regression, "gan_loss": gan}

        with _frozen(judge):
            return self.descend("student", batches, terms)


@contextmanager
def _frozen(module: nn.Module):
    """Within, gradients pass through the module and none are kept for its weights."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
