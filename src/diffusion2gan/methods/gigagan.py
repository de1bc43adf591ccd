"""GigaGAN (Kang et al. 2023) on latents: a text-to-image GAN from random weights, which no teacher teaches."""

from dataclasses import replace

from diffusion2gan.methods.denoising import random_noise
from diffusion2gan.training.adversarial import AdversarialTraining
from diffusion2gan.training.student import MicroBatch

Z = 0  # mixed into the seed


class GigaGANTraining(AdversarialTraining):
    """An adversarial training whose noise z belongs to no latent; the latents x of the pairs are the data.

    G has the architecture of a student (theirs is a StyleGAN with attention).                              # ours
    """

    def batches(self, step: int) -> list[MicroBatch]:
        """The micro-batches of a step, with fresh noise."""
        return [replace(batch, z=random_noise(batch, Z)) for batch in super().batches(step)]
