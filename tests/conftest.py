"""What every test shares: a repaired torchvision, one thread, and a random toy pipeline."""

import diffusion2gan  # noqa: F401, I001  (before anything that imports torchvision)

import pytest
import torch

from diffusion2gan.datasets.openmoji import prompts
from diffusion2gan.networks import toy

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """A `StableDiffusionPipeline` folder with the toy scale's networks and random weights."""
    torch.manual_seed(0)
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    folder = tmp_path_factory.mktemp("pipelines") / "teacher"
    toy.pipeline(toy.vae().eval(), tokenizer, toy.text_encoder(tokenizer).eval(), toy.unet().eval()).save_pretrained(
        folder
    )
    return folder
