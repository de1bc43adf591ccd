"""DMD2 (Yin et al. 2024b): distribution matching without pairs, with a GAN head on the fake denoiser.

Several updates of the fake denoiser for each of the student keep its score up to date, so that the regression on pairs
is not needed. The head sees real latents, which the teacher's score alone never does.
"""

import time
from collections import Counter
from collections.abc import Sequence

import torch

from diffusion2gan.discriminators.unet import bottleneck_width, encode, readout, time_embedding
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses.adversarial import accuracy, discriminator_loss, generator_loss
from diffusion2gan.methods.dmd import DMDTraining
from diffusion2gan.training.student import Losses, MicroBatch, only_shown

SCORED, HEAD_REAL, HEAD_FAKE = range(3, 6)  # mixed into the seed after DMD's numbers, one for each random draw


class ScoredDenoiser(Generator):
    """A denoiser with a head on its bottleneck, which is D(xₜ, t, c): logits of noisy latents."""

    def __init__(self, denoiser: Generator):
        super().__init__(denoiser.unet, denoiser.scheduler)
        width = bottleneck_width(self.unet)
        self.head = readout(width, self.unet.config.norm_num_groups)  # ours: a logit at every location

    def forward(
        self,
        z: torch.Tensor,
        text_embeddings: torch.Tensor,
        timesteps: torch.Tensor,
        scored: bool = False,
        **added: torch.Tensor,
    ) -> torch.Tensor | list[torch.Tensor]:
        """The estimate x̂₀ (N, C, h, w) of noisy latents; if `scored`, D's logit map instead, (N, 1, h', w') in a list.

        The pass for a logit ends at the bottleneck.
        """
        if not scored:
            return super().forward(z, text_embeddings, timesteps, **added)
        embedded = time_embedding(self.unet, z, text_embeddings, timesteps, added)
        bottleneck, _ = encode(self.unet, z, text_embeddings, embedded)
        return [self.head(bottleneck)]


class DMD2Training(DMDTraining):
    """Each step improves G on distribution matching and on D, then several times the fake denoiser with D's head.

    Each update of the fake denoiser has its own batch: G's latents for its captions, and the latents x of its pairs as
    the data. The authors have images of LAION.                                                             # ours
    """

    @property
    def evaluations(self) -> Evaluations:
        """Network evaluations of a step. D's passes end at the bottleneck: two of them count as one."""
        n, updates, matching = self.settings.batch_size, self.settings.fake_updates, super().evaluations
        scored = -(-(2 * updates + 1) * n // 2)
        return Evaluations(
            teacher_forward=matching.teacher_forward,
            student_forward=updates * n,
            student_backward=n,
            fake_forward=(1 + updates) * n,
            fake_backward=updates * n,
            discriminator_forward=scored,
            discriminator_backward=scored,
        )

    @property
    def batch_count(self) -> int:
        """The batches of the whole training, one for each update of the fake denoiser."""
        return self.settings.iterations * self.settings.fake_updates

    def step(self, step: int) -> dict[str, float]:
        start, updates = time.perf_counter(), self.settings.fake_updates
        batches = self.batches(step * updates)
        numbers, generated = self.generator_step(batches)
        means = Counter()
        for number in range(step * updates, (step + 1) * updates):
            if number > step * updates:
                batches = self.batches(number)
                with torch.no_grad():
                    generated = [self.generated(batch) for batch in batches]
            means.update({name: each / updates for name, each in self.fake_step(batches, generated).items()})
        return {name: number.item() for name, number in (numbers | means).items()} | self.speed(step, start)

    def generator_step(self, batches: Sequence[MicroBatch]) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        """Improve G once. Returns its losses, and the latents that it made from fresh noise, by micro-batch."""
        with self.fixed("fake"):  # D's gradient passes through it
            return super().generator_step(batches)

    def fake_of(self, teacher: Generator) -> ScoredDenoiser:
        """The fake denoiser with a head, given a copy of the teacher."""
        return ScoredDenoiser(teacher)

    def other_losses(self, batch: MicroBatch, x: torch.Tensor) -> Losses:
        """G's weighted GAN loss -E log D(xₜ, t) (Yin et al. 2024b, Sec. 4.3); xₜ is x with noise of any level."""
        noisy, timesteps = self.noised(batch, x, SCORED, 0.0, 1.0)
        # not wrapped: its weights get no gradient, so there is nothing to average
        fake = self.modules["fake"]
        with self.precision():
            gan_loss = generator_loss(fake(noisy, timesteps=timesteps, scored=True, **batch.conditions))
        return {"gan_loss": (self.settings.lambda_adversarial, gan_loss)}

    def fake_losses(self, batch: MicroBatch, x: torch.Tensor) -> Losses:
        """The denoising loss on G's latents x (N, C, h, w), and D's loss on noisy real and noisy generated latents."""
        losses = super().fake_losses(batch, x)
        drawn = [self.noised(batch, *each, 0.0, 1.0) for each in ((batch.x, HEAD_REAL), (x, HEAD_FAKE))]
        noisy, timesteps = (torch.cat(each) for each in zip(*drawn, strict=True))
        both = {name: torch.cat([each, each]) for name, each in batch.conditions.items()}
        with self.precision():  # one call for both
            (logits,) = self.fake(noisy, timesteps=timesteps, scored=True, **both)
            real, generated = logits.chunk(2)
            head_loss = discriminator_loss([real], [generated])
        shown = only_shown(accuracy([real], [generated]))
        return losses | {"head_loss": (self.settings.lambda_head, head_loss)} | shown
