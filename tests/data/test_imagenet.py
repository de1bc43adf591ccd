"""Labels of an ImageNet folder are those of `train`, whatever else lies in the folders."""

import shutil

import numpy as np
import pytest
from official import imagenet as official
from PIL import Image
from torch.utils.data import DataLoader

from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.errors import UserError

CAT, DOG, FOX, OWL = official.WNIDS


@pytest.fixture
def folder(tmp_path):
    return official.write(tmp_path / "imagenet")


def labels(folder, split="val"):
    """The label of each class that a split has, by the class's name."""
    images = LabelledImages(str(folder), split, 32, seed=0)
    return {images.classes[label]: label for label in sorted({images[i][1] for i in range(images.count)})}


def test_a_class_that_val_lacks_shifts_no_label(folder):
    whole = {CAT: 0, DOG: 1, FOX: 2, OWL: 3}
    assert labels(folder, "train") == labels(folder) == whole
    shutil.rmtree(folder / "val" / DOG)
    for image in (folder / "val" / CAT).iterdir():  # as a disk that removes old files leaves a class
        image.unlink()
    assert labels(folder, "train") == whole and labels(folder) == {FOX: 2, OWL: 3}


def test_a_label_is_the_class_of_its_own_image(folder):
    shutil.rmtree(folder / "val" / CAT)
    images = LabelledImages(str(folder), "val", 32, seed=0)
    reds = {images[i][1]: int(images[i][0][..., 0].mean()) for i in range(images.count)}
    assert {label: round(red / 60) for label, red in reds.items()} == {1: 1, 2: 2, 3: 3}  # the colour of each class


def test_what_is_hidden_is_neither_class_nor_image(folder):
    before = labels(folder), LabelledImages(str(folder), "train", 32, 0).count
    for split in ("train", "val"):
        for name in (".ipynb_checkpoints", "lost+found", f"{FOX}/.ipynb_checkpoints"):
            (folder / split / name).mkdir()
            shutil.copy(next((folder / split / OWL).iterdir()), folder / split / name / "copy-checkpoint.JPEG")
        (folder / split / FOX / "._copy.JPEG").write_bytes(b"\0\5\x16\7")  # macOS
        (folder / split / "._copy.JPEG").write_bytes(b"\0\5\x16\7")
        (folder / split / "synset_words.txt").touch()
    assert (labels(folder), LabelledImages(str(folder), "train", 32, 0).count) == before


def test_images_in_folders_of_a_class_are_of_that_class(folder):
    (folder / "val" / FOX / "more").mkdir()
    for image in list((folder / "val" / FOX).glob("*.JPEG")):
        image.rename(folder / "val" / FOX / "more" / image.name)
    assert labels(folder) == {CAT: 0, DOG: 1, FOX: 2, OWL: 3}


def test_folders_that_would_give_wrong_labels_are_one_line_errors(folder):
    def complaint(split="val"):
        with pytest.raises(UserError) as error:
            LabelledImages(str(folder), split, 32, 0)
        assert "\n" not in str(error.value)
        return str(error.value)

    (folder / "val" / "n09999999").mkdir()
    assert complaint() == f"{folder}/val/n09999999 is no class of train: remove it, or add it to train/"
    (folder / "val" / "n09999999").rmdir()
    (folder / "train" / "n09999999").mkdir()
    assert complaint("train") == f"{folder}/train/n09999999 holds no images: unpack it again, or remove it"
    (folder / "train" / "n09999999").rmdir()
    shutil.copy(next((folder / "val" / FOX).iterdir()), folder / "val" / "ILSVRC2012_val_00000001.JPEG")
    loose = f"{folder}/val/ILSVRC2012_val_00000001.JPEG"
    assert complaint() == f"{loose} is in no class: sort the images into a folder per class"
    for wnid in official.WNIDS:
        shutil.rmtree(folder / "val" / wnid)
    assert complaint() == f"{loose} is in no class: sort the images into a folder per class"  # as ImageNet ships val
    (folder / "val" / "ILSVRC2012_val_00000001.JPEG").unlink()
    assert complaint() == f"there are no classes in {folder}/val: unpack ImageNet there"
    (folder / "val" / FOX).mkdir()
    assert complaint() == f"the classes in {folder}/val hold no images: unpack them again"
    shutil.rmtree(folder / "train")
    assert complaint().startswith(f"no labelled images in {folder}/train: set `images` to 'openmoji'")


def test_an_image_that_was_cut_short_is_named(folder):
    image = max((folder / "val" / OWL).iterdir())
    image.write_bytes(image.read_bytes()[:600])
    images = LabelledImages(str(folder), "val", 32, 0)
    with pytest.raises(UserError, match=f"the image {image} cannot be read .*: make or fetch it again"):
        [images[i] for i in range(images.count)]
    with pytest.raises(UserError) as error:
        list(DataLoader(images, sampler=range(images.count), num_workers=1, multiprocessing_context="fork"))
    said = str(error.value)
    assert said.startswith(f"the image {image} cannot be read") and "\n" not in said and "Traceback" not in said


def test_grey_cmyk_and_16_bit_images(folder):
    images = LabelledImages(str(folder), "train", 32, 0)  # of which one is grey and one CMYK
    assert {images[i][0].shape for i in range(images.count)} == {(32, 32, 3)}
    deep = folder / "val" / OWL / "deep.png"
    Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(deep)
    images = LabelledImages(str(folder), "val", 32, 0)
    with pytest.raises(UserError, match=f"{deep} has pixels of more than 8 bits"):
        [images[i] for i in range(images.count)]
