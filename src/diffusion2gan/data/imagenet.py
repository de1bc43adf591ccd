"""Labelled images to train a classifier on: an ImageNet folder, or a registered source."""

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2 as transforms

from diffusion2gan.data.sources import find_source, source_names
from diffusion2gan.errors import UserError
from diffusion2gan.seeds import batch_indices, mix

SPLIT_SEEDS = {"train": 1, "val": 2}


class LabelledImages:
    """Images uint8 (size, size, 3) and labels; example i depends on (source, split, seed, i) only.

    `source` is the name of a registered source, or a folder `SOURCE/{train,val}/{class}/*` like ImageNet's.
    `count` is the number of images in the folder, None for a registered source, which is endless.
    A folder is shuffled. Its training images are random crops, flipped at random, with a new crop in every epoch;
    its validation images are centre crops of 7/8 of the shorter side.
    Raises UserError if the folder or its split is missing or empty.
    """

    def __init__(self, source: str, split: str, size: int, seed: int):
        self.seed = mix(seed, SPLIT_SEEDS[split])
        self.made = None
        if registered := find_source(source):
            self.made = registered.labelled_images(size, self.seed)
            self.classes, self.count = self.made.classes, None
            return
        try:
            self.folder = ImageFolder(str(Path(source) / split))
        except FileNotFoundError as error:
            raise UserError(
                f"no labelled images in {source}/{split}: set `images` to {source_names()} or a folder"
            ) from error
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
