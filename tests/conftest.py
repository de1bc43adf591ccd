"""Shared by all tests: a repaired torchvision, one thread, and a random toy pipeline."""

import diffusion2gan  # noqa: F401, I001  (before anything that imports torchvision)

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import prompts

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Run long tests (marked `first`) first, so that the others fill the remaining cores."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A `StableDiffusionPipeline` folder with the toy scale's networks and random weights."""
    return _pipeline(tmp_path_factory, toy.unet)


@pytest.fixture(scope="session")
def small_teacher_folder(tmp_path_factory):
    """The same with a U-Net that has a twelfth of the weights, for trainings."""
    config = {**toy.unet().config, "block_out_channels": (16, 32), "norm_num_groups": 4}
    return _pipeline(tmp_path_factory, lambda: UNet2DConditionModel.from_config(config))


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
def pixart_folder(tmp_path_factory, teacher_folder):
    """A PixArt-α in miniature: a T5 of 16 dimensions, a transformer of one block, the toy VAE."""
    torch.manual_seed(0)
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("▁a", -1.0), ("▁fox", -1.0), ("▁apple", -1.0)]
    tokenizer = T5Tokenizer(vocab=words, extra_ids=0)
    text = T5EncoderModel(T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    transformer = PixArtTransformer2DModel(
        sample_size=8, patch_size=2, num_layers=1, num_attention_heads=2, attention_head_dim=8, in_channels=4,
        out_channels=8, caption_channels=16, cross_attention_dim=16, use_additional_conditions=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pipelines") / "pixart"
    PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=text.eval(),
        vae=AutoencoderKL.from_pretrained(teacher_folder, subfolder="vae"),
        transformer=transformer.eval(),
        scheduler=DPMSolverMultistepScheduler(),
    ).save_pretrained(folder)
    return folder


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
