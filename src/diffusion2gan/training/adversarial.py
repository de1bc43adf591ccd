"""Training of the student as a conditional GAN: regression and adversarial loss together (Sec. 3.3)."""

import time
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from diffusion2gan.discriminators.mix_and_match import Fractions, mix_and_match, other_caption
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.losses.adversarial import discriminator_loss, generator_loss, rejection_loss
from diffusion2gan.training.regression import Batch, RegressionTraining, adamw
from diffusion2gan.training.update import update


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


class AdversarialTraining(RegressionTraining):
    """Each step improves D, then G on L = L_regression + λ_GAN · L_GAN, on the same pairs.

    `regression` are the arguments of RegressionTraining.
    """

    def __init__(self, discriminator: nn.Module, adversary: Adversary, **regression):
        super().__init__(**regression)
        self.discriminator, self.adversary = discriminator.to(self.device).train(), adversary
        self.modules["discriminator"] = self.discriminator
        self.optimizers["discriminator"] = adamw(self.discriminator, adversary.learning_rate)

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batch = self.batch(step)
        with self.precision:
            generated = self.student(batch.z, **batch.conditions)
        numbers = self._improve_discriminator(step, batch, generated.detach())
        numbers |= self._improve_generator(batch, generated)
        return numbers | self.cost(step, start)

    def _improve_discriminator(self, step: int, batch: Batch, generated: torch.Tensor) -> dict[str, float]:
        judge, adversary = self.discriminator, self.adversary
        latents, noise, conditions = generated, batch.z, batch.conditions
        if adversary.mix:
            mix = mix_and_match(batch.captions, adversary.mix)
            latents, noise, conditions = mix.apply(generated, batch.x, batch.z, batch.conditions)
        with self.precision:
            real = judge(batch.x, batch.z, **batch.conditions)
            fake = judge(latents, noise, **conditions)
            loss = discriminator_loss(real, fake)
            if adversary.matching_aware:
                loss = loss + self._matching_loss(batch, generated)
        numbers = {"discriminator_loss": loss.item()}
        if adversary.r1_gamma is not None and step % adversary.r1_every == 0:
            penalty = single_sample_r1(
                judge, batch.x, batch.z, gamma=adversary.r1_gamma, every=adversary.r1_every, **batch.conditions
            )
            loss = loss + penalty
            numbers["r1"] = penalty.item()
        update(self.optimizers["discriminator"], loss)
        return numbers

    def _matching_loss(self, batch: Batch, generated: torch.Tensor) -> torch.Tensor:
        """GigaGAN's matching-aware loss: real and generated latents are fake beside another's text."""
        other = other_caption(batch.captions).to(self.device)
        mismatched = other != torch.arange(len(other), device=self.device)
        if not mismatched.any():
            return generated.new_zeros(())
        text = {name: each[other[mismatched]] for name, each in batch.conditions.items()}
        z = batch.z[mismatched]
        target, generated = batch.x[mismatched], generated[mismatched]
        return rejection_loss(self.discriminator(target, z, **text)) + rejection_loss(
            self.discriminator(generated, z, **text)
        )

    def _improve_generator(self, batch: Batch, generated: torch.Tensor) -> dict[str, float]:
        with _frozen(self.discriminator):
            with self.precision:
                regression = self.loss(generated, batch.x)
                gan = generator_loss(self.discriminator(generated, batch.z, **batch.conditions))
                loss = regression + self.adversary.lambda_gan * gan
            update(self.optimizers["student"], loss)
        return {"loss": loss.item(), "regression_loss": regression.item(), "gan_loss": gan.item()}


@contextmanager
def _frozen(module: nn.Module):
    """Within, gradients pass through the module and none are kept for its weights."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
