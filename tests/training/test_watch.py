"""What is seen of a training while it runs: the file of its history, a tracker, and warnings in words."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffusion2gan.errors import UserError
from diffusion2gan.training import watch
from diffusion2gan.training.watch import Watch, signs_of_collapse


def rows(count: int, **numbers: float) -> list[dict[str, float]]:
    return [{"step": 20 * i, "seconds": 1.0 * i, "loss": 1.0 / (i + 1), **numbers} for i in range(count)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    return now


def test_the_history_grows_on_the_disk_every_ten_seconds_and_is_whole_at_the_end(tmp_path, clock):
    file = tmp_path / "new" / "history.csv"
    watching, history = Watch(file, iterations=61), rows(4)
    lengths = []
    for now, count in [(1000, 1), (1009, 2), (1010, 3), (1011, 4)]:  # the last row is of the last step
        clock[0] = now
        watching(history[:count])
        lengths.append(len(pd.read_csv(file)))
    assert lengths == [1, 1, 3, 4]
    pd.testing.assert_frame_equal(pd.read_csv(file), pd.DataFrame(history))
    assert not list(file.parent.glob(".*"))


def test_numbers_and_images_can_be_read_back_from_tensorboard(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "grid.png")
    watching, history = Watch(tmp_path / "history.csv", 101, "tensorboard", {"loss": "mse", "lpips": None}), rows(5)
    for count in range(1, 6):
        watching(history[:count], {"peak_memory_gib": 2.0})
    watching.show(tmp_path / "grid.png", 60)
    watching.finish()
    found = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    assert [(each.step, each.value) for each in found.Scalars("loss")] == [
        (row["step"], pytest.approx(row["loss"])) for row in history
    ]
    assert found.Scalars("hours_left")[-1].value == pytest.approx(20 * 4 / 81 / 3600)  # 20 of 101 steps, 4 s for 81
    assert found.Scalars("peak_memory_gib")[0].value == 2.0
    (shown,) = found.Images("samples")
    assert (shown.step, shown.height, shown.width) == (60, 6, 5)


def test_a_tracker_without_its_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(watch.AVAILABLE, "wandb", lambda: False)
    with pytest.raises(
        UserError, match="^report_to: wandb needs a package: pip install wandb, or set report_to: none$"
    ):
        Watch(tmp_path / "history.csv", 1, "wandb")


def test_a_discriminator_that_wins_for_long_is_warned_of_once(tmp_path, capsys):
    won, close = {"real_accuracy": 1.0, "fake_accuracy": 0.995}, {"real_accuracy": 1.0, "fake_accuracy": 0.98}
    assert not signs_of_collapse(rows(9, **won)) and "discriminator" in signs_of_collapse(rows(10, **won))
    assert not signs_of_collapse(rows(9, **won) + rows(1, **close)) and not signs_of_collapse(rows(20))
    watching, history = Watch(tmp_path / "history.csv", 10**6), rows(12, **won)
    for count in range(1, 13):
        watching(history[:count])
    said = capsys.readouterr().out
    assert said.count("warning: step 180: the discriminator has told all real latents from all generated ones") == 1
    assert said.count("\n") == 1


def gan_rows(*variances: float) -> list[dict[str, float]]:
    return [{"step": i, "variance": each, "real_accuracy": 0.6} for i, each in enumerate(variances)]


def test_a_student_whose_variance_falls_is_warned_of():
    def fallen(*variances: float) -> bool:
        return "variance" in signs_of_collapse(gan_rows(*variances))

    assert signs_of_collapse([{"step": 0, "variance": 2.1}]).keys() == {"growth"}
    assert not signs_of_collapse([{"step": 0, "variance": 1.9}])
    assert fallen(0.9, 0.8, 0.44) and not fallen(0.9, 0.8, 0.46) and not fallen(0.3)
    assert not signs_of_collapse([{"step": i, "variance": each} for i, each in enumerate((0.9, 0.1))])  # a regression
    words = signs_of_collapse([*gan_rows(0.9), {"step": 1, "loss": 1.0}, *gan_rows(0.1)])
    assert "has fallen from 0.90 to 0.10 of the teacher's" in words["variance"]


def test_wandb_gets_the_run_s_name_and_its_settings(tmp_path, monkeypatch):
    told = []

    class FakeTracker:
        name = "wandb"

        def __init__(self, project, **options):
            told.append((project, options["name"], options["dir"]))

        def start(self):
            told.append("started")

        def store_init_configuration(self, settings):
            told.append(settings)

        def log(self, numbers, step):
            told.append((step, numbers["loss"]))

        def log_images(self, images, step):
            told.append((step, images["samples"].shape))

        def finish(self):
            told.append("finished")

    monkeypatch.setitem(watch.AVAILABLE, "wandb", lambda: True)
    monkeypatch.setattr(watch, "WandBTracker", FakeTracker)
    Image.new("RGB", (4, 2)).save(tmp_path / "grid.png")
    watching = Watch(tmp_path / "history.csv", 100, "wandb", {"lambda_gan": 1.0})
    watching(rows(1))
    watching.show(tmp_path / "grid.png", 7)
    watching.finish()
    place = ("diffusion2gan", tmp_path.name, str(tmp_path))
    assert told == [place, "started", {"lambda_gan": "1.0"}, (0, 1.0), (7, (1, 2, 4, 3)), "finished"]
    assert "wandb" not in sys.modules
