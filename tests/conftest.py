"""What every test shares: a repaired torchvision, one thread, and a random toy pipeline."""

import diffusion2gan  # noqa: F401, I001  (before anything that imports torchvision)

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModelWithProjection

from diffusion2gan.datasets.openmoji import prompts
from diffusion2gan.networks import toy

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A `StableDiffusionPipeline` folder with the toy scale's networks and random weights."""
    return _pipeline(tmp_path_factory, toy.unet)


@pytest.fixture(scope="session")
def small_teacher_folder(tmp_path_factory):
    """The same with a U-Net of a twelfth of the weights, for trainings."""
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
    first = toy.text_encoder(tokenizer)
    second = CLIPTextModelWithProjection(first.config.__class__(**first.config.to_dict() | {"projection_dim": 24}))
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        cross_attention_dim=128,
        norm_num_groups=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    folder = tmp_path_factory.mktemp("pipelines") / "xl"
    StableDiffusionXLPipeline(
        vae=toy.vae().eval(),
        text_encoder=first.eval(),
        text_encoder_2=second.eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.eval(),
        scheduler=toy.scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder
