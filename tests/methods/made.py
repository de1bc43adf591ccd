"""Trainings of each method on few pairs, in double precision."""

import torch
from built import InMemory
from training.small_gan import squared

from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.methods.add import ADDTraining, FeatureHeads
from diffusion2gan.methods.dmd import DMDTraining
from diffusion2gan.methods.lcm import LCMTraining
from diffusion2gan.methods.progressive import ProgressiveTraining
from diffusion2gan.methods.ufogen import UFOGenTraining
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import ADDSettings, DMDSettings, LCMSettings, ProgressiveSettings, UFOGenSettings
from diffusion2gan.teacher import Teacher

SETTINGS = {"loss": "mse", "iterations": 3, "batch_size": 4, "learning_rate": 1e-4}
METHODS = {
    "dmd": (DMDTraining, DMDSettings, {"fake_learning_rate": 1e-3}),
    "progressive": (ProgressiveTraining, ProgressiveSettings, {"steps": 4}),
    "lcm": (LCMTraining, LCMSettings, {"noise_levels": 5, "target_decay": 0.8}),
    "add": (ADDTraining, ADDSettings, {"d_learning_rate": 1e-3}),
    "ufogen": (UFOGenTraining, UFOGenSettings, {"d_learning_rate": 1e-3, "lambda_reconstruction": 0.5}),
}


def training(method, folder, fitting=None, **changes):
    """A training whose student and teacher are the pipeline in `folder`."""
    kind, settings, own = METHODS[method]
    teacher, pairs = Teacher(folder, "cpu", torch.float64), InMemory()
    pairs.x = pairs.x.double()
    given = {"student": Generator.from_teacher(folder).double(), "teacher": teacher, "pairs": pairs, "loss": squared}
    if method == "ufogen":
        torch.manual_seed(0)  # the readout's weights
        discriminator = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=False, multi_scale=False)
        given["discriminator"] = discriminator.double()
    if method == "add":
        torch.manual_seed(0)
        given["features"] = VGG("latent", 4, 0, width=0.125, batch_norm=False).double()
        given["discriminator"] = FeatureHeads(given["features"].widths, 64).double()
    return kind(**given, settings=settings(**SETTINGS | own | changes), fitting=fitting)


def gradients(made, name):
    """The gradients with which a training's optimizer makes its next step."""
    kept = []

    def keep(optimizer, *_):
        kept.extend(weight.grad.clone() for weight in optimizer.param_groups[0]["params"])

    made.optimizers[name].register_step_pre_hook(keep)
    return kept
