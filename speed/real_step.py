"""One real optimizer step of Stable Diffusion 1.5's U-Net on the CPU, and its memory beside the account's.

    python speed/real_step.py                # needs 16 GiB of memory and some minutes

The weights are random, the batch is one latent of 64 × 64, everything is float32, and the loss is LatentLPIPS with a
metric of full size. There is no EMA. The account is counted on tensors without data (`diffusion2gan.memory`).
"""

import diffusion2gan._torchvision  # noqa: F401 - before diffusers

import argparse
import resource
import time
from unittest.mock import patch

import torch
from diffusers import UNet2DConditionModel

from diffusion2gan.generator import Generator
from diffusion2gan.losses import regression_loss
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.memory.count import GIB
from diffusion2gan.memory.networks import SD15, Source, scheduler
from diffusion2gan.memory.training import RandomPairs, Training
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import Fitting, RegressionSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.regression import RegressionTraining

SHAPE = (4, 64, 64)
PATH = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SETTINGS = RegressionSettings(loss="latent_lpips", iterations=1, batch_size=1, ema_decay=0.0)


class NoTeacher:
    """What the training asks of a teacher: a device and the embeddings of captions."""

    device = torch.device("cpu")

    def encode_text(self, captions: list[str]) -> dict[str, torch.Tensor]:
        return {"text_embeddings": torch.zeros(len(captions), 77, SD15["unet"]["cross_attention_dim"])}


def resident() -> float:
    """The highest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--checkpointing", action="store_true", help="recompute activations")
    fitting = Fitting(gradient_checkpointing=arguments.parse_args().checkpointing)

    frozen = 4 * sum(weight.numel() for weight in _frozen())
    with patch.object(Teacher, "decode", lambda teacher, latents: latents):  # no sample grid, as below
        account = (Training(SETTINGS, fitting, Source(PATH, SHAPE)).count() - frozen) / GIB
    before = resident()
    trunk = VGG("latent", SHAPE[0], 0, batch_norm=False)
    metric = LPIPS(trunk, [torch.ones(width) for width in trunk.widths])
    student = Generator(UNet2DConditionModel.from_config(SD15["unet"]), scheduler())
    loss = regression_loss(SETTINGS, metric)
    training = RegressionTraining(student, NoTeacher(), RandomPairs(SHAPE), loss, SETTINGS, fitting)
    start = time.monotonic()
    numbers = training.step(0)
    print(f"the step took {time.monotonic() - start:.0f} s, loss {numbers['loss']:.4f}")
    print(f"peak resident memory {resident():.2f} GiB; {before:.2f} GiB before the networks were built")
    print(f"account without text encoder and VAE {account:.2f} GiB")


def _frozen():
    teacher = Source(PATH, SHAPE).teacher(idle=True)
    return [*teacher.vae.parameters(), *teacher.text_encoder.parameters()]


if __name__ == "__main__":
    main()
