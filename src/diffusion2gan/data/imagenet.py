"""Labelled images to train a classifier on: an ImageNet folder, or a registered source."""

import os
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension
from torchvision.transforms import v2 as transforms

from diffusion2gan.data.sources import find_source, source_names
from diffusion2gan.errors import UserError
from diffusion2gan.images import open_image
from diffusion2gan.io import data_folders, is_hidden
from diffusion2gan.seeds import batch_indices, mix

SPLIT_SEEDS = {"train": 1, "val": 2}


class LabelledImages:
    """Images uint8 (size, size, 3) and labels; example i depends on (source, split, seed, i) only.

    `source` is the name of a registered source, or a folder `SOURCE/{train,val}/{class}/*` like ImageNet's.
    `train` numbers the classes of both splits, so a class that `val` lacks does not shift the labels of others.
    `count` is the number of images in the folder, None for a registered source, which is endless.
    A folder is shuffled. Its training images are random crops, flipped at random, with a new crop in every epoch;
    its validation images are centre crops of 7/8 of the shorter side.
    Raises UserError if the folder or its split is missing or empty, if a class of `train` is empty, if `val` has a
    class that `train` lacks, or if images lie outside the classes.
    """

    def __init__(self, source: str, split: str, size: int, seed: int):
        self.seed = mix(seed, SPLIT_SEEDS[split])
        self.made = None
        if registered := find_source(source):
            self.made = registered.labelled_images(size, self.seed)
            self.classes, self.count = self.made.classes, None
            return
        self.folder = _Split(Path(source, split))
        self.classes, self.count = self.folder.classes, len(self.folder)
        self.order = batch_indices(0, self.count, self.count, self.seed).tolist()
        crop = {
            "train": [transforms.RandomResizedCrop(size, antialias=True), transforms.RandomHorizontalFlip()],
            "val": [transforms.Resize(size * 8 // 7, antialias=True), transforms.CenterCrop(size)],
        }
        self.crop = transforms.Compose(crop[split])

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if self.made is not None:
            return self.made[index]
        image, label = self.folder[self.order[index % self.count]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.seed, index))
            return np.asarray(self.crop(image)), label


class _Split(ImageFolder):
    """A split, numbered by the classes of the folder `train` beside it. Hidden files and folders are left out."""

    def __init__(self, folder: Path):
        start = len(str(folder))
        super().__init__(
            str(folder), loader=open_image, allow_empty=True,
            is_valid_file=lambda path: _is_image(path[start:]),
        )  # fmt: skip
        empty = set(range(len(self.classes))) - set(self.targets)
        if folder.name == "train" and empty:
            raise UserError(f"{folder}/{self.classes[min(empty)]} holds no images: unpack it again, or remove it")
        if not self.targets:
            raise UserError(f"the classes in {folder} hold no images: unpack them again")

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        folder, train = Path(directory), Path(directory).with_name("train")
        for split in (train, folder):
            if not split.is_dir():
                raise UserError(f"no labelled images in {split}: set `images` to {source_names()} or a folder")
            if loose := next((name for name in os.listdir(split) if _is_image(name)), None):
                raise UserError(f"{split}/{loose} is in no class: sort the images into a folder per class")
        classes, own = data_folders(train), data_folders(folder)
        if not own or not classes:
            raise UserError(f"there are no classes in {folder if classes else train}: unpack ImageNet there")
        if strange := set(own) - set(classes):
            raise UserError(f"{folder}/{min(strange)} is no class of train: remove it, or add it to train/")
        return classes, {name: number for number, name in enumerate(classes)}


def _is_image(path: str) -> bool:
    """Whether a path within a split is that of an image that is not hidden."""
    return has_file_allowed_extension(path, IMG_EXTENSIONS) and not any(map(is_hidden, path.split(os.sep)))
