"""Everything that the paper's scale reads, where it reads it: `data/` in the current folder, and the hub's cache."""

import hashlib

import pytest
from huggingface_hub import constants
from official import bapps, cifar10, coco, edm, hub, imagenet, laion, paper, vgg
from official.paper import PAIRS

from diffusion2gan.pixel import cifar10 as reader
from diffusion2gan.study.paths import Paths


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """The study, and a folder with all files; it is the current folder while a test uses it, and the hub is offline."""
    folder = tmp_path_factory.mktemp("paper")
    hub.cache(folder / "hub")
    return folder
