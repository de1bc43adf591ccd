"""Trainings of each method on few pairs, in double precision."""

import copy
from functools import cache

import torch
from built import InMemory
from training.small_gan import squared

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.unet import DiffusionDiscriminator, EncoderDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.methods.add import ADDTraining, FeatureHeads
from diffusion2gan.methods.dmd import DMDTraining
from diffusion2gan.methods.dmd2 import DMD2Training
from diffusion2gan.methods.gigagan import GigaGANTraining
from diffusion2gan.methods.lcm import LCMTraining
from diffusion2gan.methods.lightning import LightningTraining
from diffusion2gan.methods.progressive import ProgressiveTraining
from diffusion2gan.methods.reflow import InstaFlowTraining, ReflowTraining
from diffusion2gan.methods.ufogen import UFOGenTraining
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import (
    ADDSettings,
    DMD2Settings,
    DMDSettings,
    GANSettings,
    InstaFlowSettings,
    LCMSettings,
    LightningSettings,
    ProgressiveSettings,
    ReflowSettings,
    UFOGenSettings,
)
from diffusion2gan.teacher import Teacher

SETTINGS = {"loss": "mse", "iterations": 3, "batch_size": 4, "learning_rate": 1e-4}
SCRATCH = {"loss": "none", "from_scratch": True, "discriminator": "gigagan", "lambda_gan": 0.5}
METHODS = {
    "dmd": (DMDTraining, DMDSettings, {"fake_learning_rate": 1e-3}),
    "dmd2": (DMD2Training, DMD2Settings, {"loss": "none", "fake_updates": 3, "fake_learning_rate": 1e-3}),
    "gigagan-from-scratch": (GigaGANTraining, GANSettings, SCRATCH | {"d_learning_rate": 1e-3}),
    "progressive": (ProgressiveTraining, ProgressiveSettings, {"steps": 4}),
    "lcm": (LCMTraining, LCMSettings, {"noise_levels": 5, "target_decay": 0.8}),
    "reflow": (ReflowTraining, ReflowSettings, {}),
    "instaflow": (InstaFlowTraining, InstaFlowSettings, {"flow_steps": 3}),
    "lightning": (LightningTraining, LightningSettings, {"loss": "none", "steps": 2, "d_learning_rate": 1e-3}),
    "add": (ADDTraining, ADDSettings, {"d_learning_rate": 1e-3}),
    "ufogen": (UFOGenTraining, UFOGenSettings, {"d_learning_rate": 1e-3, "lambda_reconstruction": 0.5}),
}


def training(method, folder, fitting=None, double=True, **changes):
    """A training whose student and teacher are the pipeline in `folder`, in double precision unless `double` is off."""
    kind, settings, own = METHODS[method]
    settings = settings(**SETTINGS | own | changes)
    dtype = torch.float64 if double else torch.float32
    teacher, pairs = loaded(folder, dtype), InMemory()
    pairs.x = pairs.x.to(dtype)
    student = Generator(copy.deepcopy(teacher.unet).requires_grad_(True), teacher.scheduler)
    given = {"student": student, "teacher": teacher, "pairs": pairs}
    given["loss"] = None if settings.loss == "none" else squared
    torch.manual_seed(0)  # the weights of heads and readouts
    if method == "ufogen":
        discriminator = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=False, multi_scale=False)
        given["discriminator"] = discriminator.to(dtype)
    if method == "lightning":
        given["discriminator"] = EncoderDiscriminator.from_teacher(teacher.unet).to(dtype)
    if method == "gigagan-from-scratch":
        text_width = teacher.unet.config.cross_attention_dim
        discriminator = GigaGANDiscriminator(teacher.latent_shape, text_width, width=8, max_width=16)
        given["discriminator"] = discriminator.to(dtype)
    if method == "add":
        given["features"] = VGG("latent", 4, 0, width=0.125, batch_norm=False).to(dtype)
        width = teacher.unet.config.cross_attention_dim
        given["discriminator"] = FeatureHeads(given["features"].widths, width).to(dtype)
    return kind(**given, settings=settings, fitting=fitting)


@cache
def loaded(folder, dtype=torch.float64):
    """A teacher that is read once, because no training changes it."""
    return Teacher(folder, "cpu", dtype)


def gradients(made, name):
    """The gradients with which a training's optimizer makes its next step."""
    kept = []

    def keep(optimizer, *_):
        kept.extend(weight.grad.clone() for weight in optimizer.param_groups[0]["params"])

    made.optimizers[name].register_step_pre_hook(keep)
    return kept
