"""A small adversarial training, and what its discriminator is asked in a step."""

import inspect
from dataclasses import dataclass

import torch
from built import InMemory
from torch.nn import functional as F

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.seeds import batch_indices
from diffusion2gan.settings import GANSettings
from diffusion2gan.training.adversarial import AdversarialTraining


def squared(x0, x1, part=None):
    return (x0 - x1).square().mean()


SETTINGS = {"loss": "mse", "iterations": 2, "batch_size": 4, "learning_rate": 1e-4, "seed": 0}


INGREDIENTS = ("z_conditioning", "multi_scale", "r1", "mix_and_match")


def common(teacher):
    torch.manual_seed(0)
    student = Generator.from_teacher(teacher.path).to(teacher.unet.dtype)
    return {"student": student, "teacher": teacher, "pairs": InMemory(), "loss": squared}


def gan(teacher, kind="diffusion", fitting=None, **changes):
    given = common(teacher)
    settings = {"d_learning_rate": 1e-4, "lambda_gan": 0.5, "discriminator": kind}
    if kind == "diffusion":
        discriminator = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=True, multi_scale=True)
        discriminator.to(teacher.unet.dtype)
        settings |= dict.fromkeys(INGREDIENTS, True) | {"r1_gamma": 0.01}
    else:
        discriminator = GigaGANDiscriminator(teacher.latent_shape, 64, width=16, max_width=32)
    settings = GANSettings(**SETTINGS | settings | changes)
    return AdversarialTraining(**given, discriminator=discriminator, settings=settings, fitting=fitting)


def fractions(latent=0.0, text=0.0, noise=0.0):
    """Settings of mix-and-match with these fractions."""
    return {"mix_fraction_latent": latent, "mix_fraction_text": text, "mix_fraction_noise": noise}


@dataclass
class Verdict:
    """The inputs of one call of D, and its logits."""

    x: torch.Tensor
    z: torch.Tensor
    text: torch.Tensor
    logits: list[torch.Tensor]


def watched(training, step):
    """All calls of D in a step, in order, the latents that G made first, and the step's numbers."""
    discriminator, verdicts, made = training.modules["discriminator"], [], []

    def record(module, args, kwargs, logits):
        asked = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        x, z, text = (asked[name].detach().clone() for name in ("x", "z", "text_embeddings"))
        verdicts.append(Verdict(x, z, text, [head.detach().clone() for head in logits]))

    hooks = [
        discriminator.register_forward_hook(record, with_kwargs=True),
        training.modules["student"].register_forward_hook(lambda module, args, x: made.append(x.detach().clone())),
    ]
    torch.manual_seed(step)
    numbers = training.step(step)
    for hook in hooks:
        hook.remove()
    return verdicts, made[0], numbers


def triples(teacher, step):
    """Latents, noise and text embeddings of a step's pairs, read without the training."""
    pairs = InMemory().batch(batch_indices(step, 4, 8, seed=0))
    return pairs.x, pairs.z, teacher.encode_text(pairs.captions)["text_embeddings"]


def called_real(logits):
    return sum(-F.logsigmoid(head).mean() for head in logits) / len(logits)


def called_fake(logits):
    return sum(-F.logsigmoid(-head).mean() for head in logits) / len(logits)


def assert_asked(verdict, x, z, text):
    torch.testing.assert_close((verdict.x, verdict.z, verdict.text), (x, z, text))
