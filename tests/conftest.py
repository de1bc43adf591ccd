"""Shared by all tests: a repaired torchvision, one thread, and a random toy pipeline."""

import diffusion2gan  # noqa: F401, I001  (before anything that imports torchvision)

import os
import signal

import pytest
import torch
from diffusers import (
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from layouts import SMALL_BK
from official import pixart

from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import prompts

torch.set_num_threads(1)
# Tests compare exact results, which differ on a GPU. TEST_GPUS=0 uses the first one (tests/README.md).
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("TEST_GPUS", "")


def pytest_collection_modifyitems(items):
    """Run tests marked `first` first, and groups before single tests, so that these fill the cores at the end."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("first", "xdist_group")])


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_signal_stays_ignored():
    """A signal that a test left ignored would also be ignored by the programs that later tests start."""

    def ignored():
        return [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]

    before = ignored()
    yield
    assert ignored() == before


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A `StableDiffusionPipeline` folder with the toy scale's networks and random weights."""
    return _pipeline(tmp_path_factory, toy.unet)


@pytest.fixture(scope="session")
def small_teacher_folder(tmp_path_factory):
    """The same with a U-Net that has a fifteenth of the weights, for trainings."""
    config = {**toy.unet().config, "block_out_channels": (8, 16, 32), "norm_num_groups": 4}
    return _pipeline(tmp_path_factory, lambda: UNet2DConditionModel.from_config(config))


@pytest.fixture(scope="session")
def bk_folder(tmp_path_factory):
    """A pipeline whose U-Net has no middle block, like BK-SDM-Tiny's."""
    return _pipeline(tmp_path_factory, lambda: UNet2DConditionModel(**SMALL_BK | {"cross_attention_dim": 64}))


def _pipeline(tmp_path_factory, unet):
    torch.manual_seed(0)
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    folder = tmp_path_factory.mktemp("pipelines") / "teacher"
    toy.pipeline(toy.vae().eval(), tokenizer, toy.text_encoder(tokenizer).eval(), unet().eval()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory):
    """A tiny `StableDiffusionXLPipeline` folder: two text encoders, pooled embedding, time ids, random weights."""
    torch.manual_seed(0)
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    folder = tmp_path_factory.mktemp("pipelines") / "xl"
    StableDiffusionXLPipeline(
        vae=toy.vae().eval(),
        text_encoder=toy.text_encoder(tokenizer).eval(),
        text_encoder_2=toy.second_text_encoder(tokenizer).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=toy.xl_unet().eval(),
        scheduler=toy.scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pixart_folder(tmp_path_factory):
    """A PixArt-α in miniature, in its official layout."""
    return pixart.pipeline(tmp_path_factory.mktemp("pipelines") / "pixart")


@pytest.fixture(scope="session")
def lcm_folder(tmp_path_factory, small_teacher_folder):
    """A latent consistency model, whose U-Net takes the guidance as a condition."""
    torch.manual_seed(0)
    sd = StableDiffusionPipeline.from_pretrained(small_teacher_folder, safety_checker=None)
    unet = UNet2DConditionModel.from_config({**sd.unet.config, "time_cond_proj_dim": 8})
    parts = {**sd.components, "unet": unet.eval(), "scheduler": LCMScheduler.from_config(sd.scheduler.config)}
    parts.pop("image_encoder")
    folder = tmp_path_factory.mktemp("pipelines") / "lcm"
    LatentConsistencyModelPipeline(**parts, requires_safety_checker=False).save_pretrained(folder)
    return folder
