"""Three steps with each teacher of a folder, in as many processes as there are."""

import json
from pathlib import Path

import torch

from diffusion2gan.losses import regression_loss
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.pixel.consistency import ConsistencyTraining
from diffusion2gan.pixel.edm import SIGMA_MIN
from diffusion2gan.pixel.model import PixelGenerator, PixelTeacher
from diffusion2gan.settings import ConsistencySettings, LossSettings, RegressionSettings
from diffusion2gan.training import distributed
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.regression import RegressionTraining

STEPS = 3


class Memory:
    """Eight pairs of noise and images of 16 × 16."""

    captions = [""]

    def __init__(self):
        self.z, self.x = torch.randn(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.z)

    def batch(self, indices):
        return Pairs(self.z[indices], [""] * len(indices), self.x[indices])


def losses(name: str, teachers: Path, out: Path) -> list[float]:
    """The loss of each step on batches of four; `name` is the folder of the teacher and the kind of the training."""
    folder, kind = teachers / Path(name).parent, Path(name).name
    settings = {"loss": "mse", "iterations": STEPS, "batch_size": 4, "learning_rate": 1e-3}
    if kind == "regression":
        student = PixelGenerator.from_teacher(folder)
        built, settings = RegressionTraining, RegressionSettings(**settings)
    else:
        student = PixelGenerator.from_teacher(folder, boundary=SIGMA_MIN)
        built, settings = ConsistencyTraining, ConsistencySettings(**settings, random_flip=True)
    training = built(
        student,
        PixelTeacher(folder, distributed.device()),
        Memory(),
        regression_loss(LossSettings(loss="mse")),
        settings,
    )
    return train(training, Schedule(STEPS), out / name, {}, 0, log_every=1)["loss"].tolist()


def train_each(folder: Path) -> None:
    teachers, kinds = ("ddpmpp", "ncsnpp"), ("regression", "consistency")
    names = [f"{teacher}/{kind}" for teacher in teachers for kind in kinds]
    found = {name: losses(name, folder, folder / "together") for name in names}
    if distributed.is_main():
        (folder / "losses.json").write_text(json.dumps(found | {"processes": distributed.count()}))
