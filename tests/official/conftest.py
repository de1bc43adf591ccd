"""Everything that the paper's scale reads, where it reads it: `data/` in the current folder, and the hub's cache."""

import hashlib
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from diffusion2gan.pixel import cifar10 as reader
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.study.study import Study
from official import bapps, cifar10, coco, edm, hub, imagenet, laion, paper, vgg


@pytest.fixture(scope="session")
def study() -> Study:
    return paper.study()


@pytest.fixture(scope="session")
def _files(tmp_path_factory, study) -> Path:
    """A folder with all files."""
    folder = tmp_path_factory.mktemp("paper")
    hub.cache(folder / "hub")
    captions = [
        f"a {colour} {thing}" for colour in ("red", "green", "blue") for thing in ("fox", "apple", "owl", "cat")
    ]
    rows = [(caption, 6.5) for caption in captions * 2] + [(None, 7.0), ("", 7.0), ("a photo of a dog", 5.0)]
    for name in ("aesthetics-6.25", "aesthetics-6.0"):
        laion.write(folder / f"data/laion/{name}.parquet", rows)
    for name in coco.NAMES:
        coco.write(folder / "data/coco", name)
    imagenet.write(folder / "data/imagenet")
    bapps.whole(folder / "data/bapps/2afc")
    cifar10.archive(folder / "data/cifar-10-python.tar.gz")
    pickled = folder / study.teachers["edm-cifar10"].pickle
    architecture = "ncsnpp" if pickled.stem.endswith("-ve") else "ddpmpp"
    torch.manual_seed(0)
    edm.write(pickled, edm.laid_out(EDM(32, 3, 16, (1, 2, 2), 1, (16,), architecture)))
    vgg.torchvision_vgg16(folder / "data/vgg16-397923af.pth")
    return folder


@pytest.fixture
def published(_files, monkeypatch) -> Path:
    """The folder with all files is the current one, the hub is offline, and our archive passes for CIFAR-10's."""
    monkeypatch.chdir(_files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(_files / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    archive = _files / "data/cifar-10-python.tar.gz"
    monkeypatch.setattr(reader, "MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    return _files
