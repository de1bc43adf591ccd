"""Labelled pictures for training a classifier: an ImageNet folder, or OpenMoji scenes labelled by drawing."""

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2 as transforms

from diffusion2gan.errors import UserError
from diffusion2gan.seeds import batch_indices, mix
from diffusion2gan.toy.openmoji import EMOJI, Scenes

SPLIT_SEEDS = {"train": 1, "val": 2}


class LabelledImages:
    """Pictures uint8 (size, size, 3) and their labels, example i a function of (source, split, seed, i).

    `source` is `openmoji`, whose scenes never end, or a folder `SOURCE/{train,val}/{class}/*` as
    ImageNet's, in an order in which the classes are mixed. Training pictures of a folder are random
    crops, flipped at random, and a new crop each time round the folder; those for validation are
    centre crops of 7/8 of the shorter side.
    Raises UserError when the folder or its split does not exist or is empty.
    """

    def __init__(self, source: str, split: str, size: int, seed: int):
        self.seed = mix(seed, SPLIT_SEEDS[split])
        self.scenes = Scenes("all", self.seed, size) if source == "openmoji" else None
        if self.scenes:
            self.classes = EMOJI
            return
        try:
            self.folder = ImageFolder(str(Path(source) / split))
        except FileNotFoundError as error:
            raise UserError(
                f"no labelled pictures in {source}/{split}: set `images` to 'openmoji' or a folder"
            ) from error
        self.classes = self.folder.classes
        self.order = batch_indices(0, len(self.folder), len(self.folder), self.seed).tolist()
        crop = {
            "train": [transforms.RandomResizedCrop(size, antialias=True), transforms.RandomHorizontalFlip()],
            "val": [transforms.Resize(size * 8 // 7, antialias=True), transforms.CenterCrop(size)],
        }
        self.crop = transforms.Compose(crop[split])

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if self.scenes:
            scene = self.scenes[index]
            return scene.image, scene.prompt.emoji
        picture, label = self.folder[self.order[index % len(self.folder)]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.seed, index))
            return np.asarray(self.crop(picture)), label
