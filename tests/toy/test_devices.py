"""The toy networks are trained on the GPU of their process, if it has one.

The device `meta` stands for a GPU: operations that mix it with the CPU fail.
"""

from contextlib import nullcontext

import pytest
import torch

from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.autoencoder import AutoencoderTraining
from diffusion2gan.toy.contrastive import ContrastiveTraining
from diffusion2gan.toy.denoising import DenoisingTraining
from diffusion2gan.toy.edm import EDMTraining
from diffusion2gan.toy.openmoji import Scenes, prompts
from diffusion2gan.toy.rendering import render
from diffusion2gan.training import distributed

SCENES = Scenes("all", 0, toy.IMAGE_SIZE)


@pytest.fixture(scope="module")
def tokenizer():
    return toy.tokenizer([prompt.caption for prompt in prompts("all")])


def autoencoder(tokenizer, folder):
    return AutoencoderTraining(render(SCENES.image, 2), 2, 1e-3, seed=0)


def denoising(tokenizer, folder, **second):
    unet = toy.xl_unet() if second else toy.unet()
    parts = torch.nn.ModuleDict({"unet": unet, "text_encoder": toy.text_encoder(tokenizer), **second})
    tokens = toy.tokenize(tokenizer, ["a fox"] * 2)
    return DenoisingTraining(torch.randn(2, 4, 16, 16), tokens, toy.tokenize(tokenizer, [""]), parts, 2, 1e-3, 0)


def xl(tokenizer, folder):
    return denoising(tokenizer, folder, text_encoder_2=toy.second_text_encoder(tokenizer))


def contrastive(tokenizer, folder):
    return ContrastiveTraining(toy.clip(folder, tokenizer), tokenizer, SCENES, 2, 1e-3)


def edm(tokenizer, folder):
    return EDMTraining(torch.randn(2, 3, 32, 32), toy.edm(), 2, 1e-3, 0)


@pytest.mark.parametrize("training", [autoencoder, denoising, xl, contrastive, edm])
def test_a_step_is_computed_on_the_device_of_the_process(training, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "device", lambda: torch.device("meta"))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # autocast does not exist for meta
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: "meta" if self.is_meta else item(self))
    assert set(training(tokenizer, tmp_path).step(0).values()) == {"meta"}
