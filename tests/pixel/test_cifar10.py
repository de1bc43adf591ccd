"""CIFAR-10 from its archive, from a folder and from scenes; a wrong file is told in one line."""

import hashlib
import os

import numpy as np
import pytest
from official.cifar10 import archive, pixels
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.pixel import cifar10
from diffusion2gan.pixel.cifar10 import load_images


def with_its_checksum(monkeypatch, path):
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(path.read_bytes()).hexdigest())


def test_the_archive(tmp_path, monkeypatch):
    path = archive(tmp_path / "cifar.tar.gz")
    with_its_checksum(monkeypatch, path)
    found = load_images(str(path), 3)
    assert found.shape == (10, 32, 32, 3) and found.dtype == np.uint8
    red = pixels(2)[1, :1024].reshape(32, 32)  # rows of one colour after the other
    assert np.array_equal(found[3, :, :, 0], red)
    assert np.array_equal(found[3, 5, 7], pixels(2)[1].reshape(3, 32, 32)[:, 5, 7])


def test_a_wrong_checksum(tmp_path):
    path = archive(tmp_path / "cifar.tar.gz")
    with pytest.raises(UserError, match=r"cifar.tar.gz is not the official archive: its MD5 is \w+, not c58f30108f7"):
        load_images(str(path), 3)


def test_code_in_a_batch_is_refused(tmp_path, monkeypatch):
    class Planted:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = archive(tmp_path / "cifar.tar.gz", Planted())
    with_its_checksum(monkeypatch, path)
    with pytest.raises(UserError, match=r"data_batch_1' asks for \w+\.system"):
        load_images(str(path), 3)
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_classes(tmp_path):
    for i, name in enumerate(["train/cat/0001.png", "train/airplane/0000.png", "train/cat/0000.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(tmp_path / name)
    assert load_images(str(tmp_path), 1)[:, 0, 0, 0].tolist() == [1, 2, 0]
    Image.new("RGB", (33, 32)).save(tmp_path / "large.png")
    with pytest.raises(UserError, match=r"large.png has 33 × 32 pixels"):
        load_images(str(tmp_path), 1)


def test_hidden_copies_are_no_images_and_the_test_images_are_not_mixed_in(tmp_path):
    for name in ("train/cat/0.png", "train/cat/.ipynb_checkpoints/0-checkpoint.png", "train/.lost/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    assert len(load_images(str(tmp_path), 1)) == 1
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path} holds test and train: give {tmp_path}/train, or"):
        load_images(str(tmp_path), 1)
    (tmp_path / "train/cat/0.png").write_bytes(b"")
    with pytest.raises(UserError, match="the image .*train/cat/0.png cannot be read"):
        load_images(str(tmp_path / "train"), 1)


def test_scenes_stand_in_for_it():
    found = load_images("openmoji", 3, seed=1)
    assert found.shape == (3, 32, 32, 3) and len({picture.tobytes() for picture in found}) == 3
    assert np.array_equal(found, load_images("openmoji", 3, seed=1))


def test_a_missing_source_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"there is no CIFAR-10 at .*: fetch it .* \(170 MB\)"):
        load_images(str(tmp_path / "cifar.tar.gz"), 1)
    with pytest.raises(UserError, match="there are no images in"):
        load_images(str(tmp_path), 1)
