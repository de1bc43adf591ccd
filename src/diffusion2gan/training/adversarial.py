"""The student as the generator of a conditional GAN: regression and adversarial loss together (Sec. 3.3)."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.mix_and_match import Fractions, Mix, mix_and_match, other_caption
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Loss
from diffusion2gan.losses.adversarial import accuracy, discriminator_loss, generator_loss, rejection_loss
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.settings import Fitting, GANSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distributed
from diffusion2gan.training.student import Losses, MicroBatch, StudentTraining, adamw, clip_gradients


@dataclass
class Fake:
    """What D learns to call fake: latents and noise (N, C, h, w), and conditions by name."""

    latents: torch.Tensor
    z: torch.Tensor
    conditions: dict[str, torch.Tensor]


def discriminator_of(settings: GANSettings, teacher: Teacher) -> nn.Module:
    """The discriminator of a row of Table 2."""
    if settings.discriminator == "diffusion":
        return DiffusionDiscriminator.from_teacher(teacher.unet, settings.z_conditioning, settings.multi_scale)
    width = min(128, teacher.unet.config.block_out_channels[0] // 2)  # ours: narrower than the teacher
    return GigaGANDiscriminator(teacher.latent_shape, teacher.unet.config.cross_attention_dim, width)


class AdversarialTraining(StudentTraining):
    """Each step improves D (Eq. 5), then G on L = L_regression + λ_GAN L_GAN (Eq. 4 and 6), on the same pairs.

    If `loss` is None, there is no regression.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss | None,
        discriminator: nn.Module,
        settings: GANSettings,
        fitting: Fitting | None = None,
    ):
        super().__init__(student, teacher, pairs, loss, settings, fitting)
        self.replicated_discriminator = distributed.replicated(discriminator, self.fitting.shard)
        self.discriminator = self.add("discriminator", discriminator)
        self.optimizers["discriminator"] = adamw(discriminator, settings.d_learning_rate)
        shares = settings.mix_fraction_latent, settings.mix_fraction_text, settings.mix_fraction_noise
        self.fractions = Fractions(*shares) if settings.mix_and_match else None
        self.matching_aware = settings.discriminator == "gigagan"

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step: G runs twice on each sample, for D and for its own gradient.

        D scores each real and each fake latent, and each fake again for G; GigaGAN's also both with another text. R1,
        of one sample per process and not in each step, is left out.
        """
        n, scored = self.settings.batch_size, 5 if self.matching_aware else 3
        return Evaluations(
            student_forward=2 * n,
            student_backward=n,
            discriminator_forward=scored * n,
            discriminator_backward=scored * n,
        )

    def step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        batches = self.batches(step)
        numbers = self.discriminator_step(step, batches)
        with self.fixed("discriminator"):
            numbers |= self.improve("student", self.student, batches, self.generator_losses)
        return {name: number.item() for name, number in numbers.items()} | self.speed(step, start)

    def discriminator_step(self, step: int, batches: Sequence[MicroBatch]) -> dict[str, torch.Tensor]:
        """Improve D once: Eq. 5 with mix-and-match or the matching-aware loss, and R1. Returns its losses."""
        discriminator, optimizer, settings = self.discriminator, self.optimizers["discriminator"], self.settings
        indices, numbers = self.indices(step), Counter()
        captions = distributed.gather([caption for batch in batches for caption in batch.captions])
        mix = mix_and_match(captions, self.fractions) if self.fractions else None
        mismatched = other_caption(captions) if self.matching_aware else None

        optimizer.zero_grad()
        if settings.r1 and step % settings.r1_every == 0:
            real, strength = batches[0], {"gamma": settings.r1_gamma, "every": settings.r1_every}
            r1 = single_sample_r1(self.replicated_discriminator, real.x, real.z, **strength, **real.conditions)
            r1.backward()
            numbers["r1"] = r1.detach()
        for batch in batches:
            with torch.no_grad():  # G's graph would not fit beside D's; it runs again in its own step
                fake = Fake(self.generate(batch), batch.z, batch.conditions)
            mixed = self.mixed(mix, batch, fake, indices, captions) if mix else fake
            with distributed.no_sync(discriminator, batch is not batches[-1]):
                with self.precision():
                    real_logits = discriminator(batch.x, batch.z, **batch.conditions)
                    fake_logits = discriminator(mixed.latents, mixed.z, **mixed.conditions)
                    loss = discriminator_loss(real_logits, fake_logits)  # Eq. 5
                if mismatched is not None:
                    loss = loss + self.matching_loss(batch, fake.latents, mismatched, captions)
                loss = loss / len(batches)
                loss.backward()
            numbers["discriminator_loss"] += loss.detach()
            right = accuracy(real_logits, fake_logits)
            numbers.update({name: share / len(batches) for name, share in right.items()})
        numbers["discriminator_gradient_norm"] = clip_gradients(discriminator)
        optimizer.step()
        return dict(numbers)

    def generator_losses(self, batch: MicroBatch) -> Losses:
        """Eq. 4, and Eq. 6 with λ_GAN, scored by the updated D."""
        x, discriminator = self.generate(batch), self.modules["discriminator"]
        with self.precision():
            # Eq. 4
            losses = {} if self.loss is None else {"regression_loss": (1.0, self.loss(x, batch.x, batch.part))}
            gan_loss = generator_loss(discriminator(x, batch.z, **batch.conditions))  # Eq. 6
        return losses | {"gan_loss": (self.settings.lambda_gan, gan_loss)}

    def mixed(self, mix: Mix, batch: MicroBatch, fake: Fake, indices: torch.Tensor, captions: Sequence[str]) -> Fake:
        """Mix-and-match: the fakes of a micro-batch, some replaced by mismatched triples of the whole batch."""
        rows = batch.part.rows
        x = self.pairs.batch(indices[mix.latent[rows]]).x.to(self.device)
        z = self.pairs.batch(indices[mix.noise[rows]]).z.to(self.device)
        target = mix.target[rows].to(self.device).view(-1, 1, 1, 1)
        text = [captions[row] for row in mix.text[rows].tolist()]
        return Fake(torch.where(target, x, fake.latents), z, self.text(text))

    def matching_loss(
        self, batch: MicroBatch, generated: torch.Tensor, other: torch.Tensor, captions: Sequence[str]
    ) -> torch.Tensor:
        """GigaGAN's matching-aware loss, a scalar: D learns to call any latent fake if its text is another sample's.

        Row i of the batch gets the text of row `other[i]` (batch_size,). Rows that would keep their own are left out.
        """
        rows, mismatched = batch.part.rows, other != torch.arange(len(other))
        if not mismatched.any():
            return generated.new_zeros(())
        share = mismatched[rows].float().mean() / mismatched.float().mean()  # of the mean over the whole batch
        # every process has to call D, because DDP and FSDP communicate in it
        here = mismatched[rows].nonzero().flatten() if share else torch.arange(len(batch.x))
        text = self.text([captions[row] for row in other[rows][here].tolist()])
        with self.precision():
            logits = [self.discriminator(latents[here], batch.z[here], **text) for latents in (batch.x, generated)]
            return share.item() * sum(rejection_loss(each) for each in logits)
