"""Shared by the tests of trainings."""

import pytest
import torch
from built import metric, pairs
from training.line import Noisy

from diffusion2gan.teacher import Teacher
from diffusion2gan.training import loop


@pytest.fixture
def clock(monkeypatch):
    """A clock that shows the minutes of `clock.minutes`; a step of `Noisy` takes one."""

    class Clock:
        minutes = 0.0

        def monotonic(self):
            return 60 * self.minutes

    Noisy.clock = Clock()
    monkeypatch.setattr(loop, "time", Noisy.clock)
    return Noisy.clock


@pytest.fixture(scope="module")
def files(small_teacher_folder, tmp_path_factory):
    """Options that name a teacher, its pairs and a metric."""
    folder, teacher = tmp_path_factory.mktemp("distillation"), str(small_teacher_folder)
    x = torch.randn(16, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    found = {"pairs": pairs(folder / "pairs", teacher, x), "lpips": metric(folder / "lpips.safetensors", "latent")}
    return {"teacher": teacher, "init": teacher} | found


@pytest.fixture(scope="module")
def teacher(small_teacher_folder):
    return Teacher(str(small_teacher_folder))
