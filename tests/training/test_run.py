"""`distillation.run`: what the loop is given, and the whole record of what a training cost."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations
from diffusion2gan.provenance import json_sha256
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.loop import Schedule, train
from scripts.distill import train_gan, train_regression

HISTORY = pd.DataFrame(
    {
        "step": [0, 1, 2],
        "seconds": [1.0, 2.0, 7.5],
        "images_per_second": [3.0, 4.0, 99.0],
        "train_error": [None, 0.5, 0.25],
        "held_out_error": [None, 0.875, 0.75],
    }
)


class FakePairs:
    """Forty pairs without content."""

    evaluations, held_out = 96, range(40, 44)

    def __len__(self):
        return 40


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Runs a training that is only looked at; returns what its loop was given, what it saved, and its record."""

    def run(kind, **options):
        caught, saved, shown = {}, [], []

        def train(*arguments, **named):
            caught.update(arguments=arguments, **named)
            return HISTORY

        monkeypatch.setattr(distillation, "train", train)
        monkeypatch.setattr(distillation, "_peak_memory", lambda device: {torch.device("cpu"): 2.5}[device])
        files = {"out": "student", "history": "history.csv", "metrics": "new/training.json", "checkpoints": "kept"}
        defaults = {"teacher": "teachers/toy", "pairs": Path("pairs"), "loss": "mse", "batch_size": 4, "seed": 3}
        args = kind(**defaults | {name: tmp_path / file for name, file in files.items()} | options)
        training = SimpleNamespace(
            modules={"student": SimpleNamespace(save=lambda *where: saved.append(where))},
            evaluations=Evaluations(student_forward=8, student_backward=4, teacher_forward=2),
            batch_count=args.iterations,
            pairs=FakePairs(),
            device=torch.device("cpu"),
            save_samples=shown.append,
            errors=lambda: {"held_out_error": 0.5},
        )
        distillation.run(training, args)
        assert caught["arguments"][0] is training
        record = json.loads(args.metrics.read_text()) if args.metrics.exists() else None
        return caught, saved, shown, record

    return run


@pytest.mark.parametrize(("iterations", "every"), [(7, 1), (10, 1), (19, 2), (40, 4)])
def test_the_loop_is_given_the_options_and_shows_at_most_ten_grids(given, tmp_path, iterations, every):
    options = {"iterations": iterations, "warmup": 5, "ema_decay": 0.4, "checkpoint_minutes": 7}
    caught, _, shown, _ = given(train_regression.Arguments, samples=tmp_path / "samples", **options)
    _, schedule, folder, compared, seed, decay, minutes = caught["arguments"]
    assert schedule == Schedule(iterations, 5, "constant") and folder == tmp_path / "kept"
    assert (seed, decay, minutes, caught["show_every"]) == (3, 0.4, 7, every)
    assert caught["show"](12) == {"held_out_error": 0.5}
    assert shown == [tmp_path / "samples" / "000012.png"]
    used = {"loss": "mse", "batch_size": 4, "learning_rate": 1e-5, "autocast": False, "teacher": "teachers/toy"}
    assert used | {"lpips": None, "lpips_side": 0, "pairs": "pairs", "first": 0, "held_out": 0} == compared


def test_without_a_folder_no_grid_is_shown(given):
    caught, _, shown, _ = given(train_regression.Arguments, iterations=7)
    assert caught["show"](12) == {"held_out_error": 0.5} and not shown


@pytest.mark.parametrize(("iterations", "warned"), [(30, False), (31, True)])
def test_more_than_three_passes_over_the_pairs_give_a_warning(given, capsys, iterations, warned):
    *_, record = given(train_regression.Arguments, iterations=iterations)
    assert record["metrics"]["passes"] == pytest.approx(iterations / 10)
    assert ("warning: each pair is seen 3.1 times" in capsys.readouterr().out) == warned


def test_the_cost_of_a_training_is_recorded_whole(given, tmp_path):
    caught, saved, _, record = given(train_gan.Arguments, iterations=3, init=Path("before"), accumulation=2)
    compared = caught["arguments"][3]
    assert saved == [(tmp_path / "student", "teachers/toy")]
    told = (tmp_path / "README.md").read_text()
    assert told.startswith(f"# {tmp_path.name}\n\nA one-step student of `teachers/toy`: 3 steps in batches of 4, ")
    assert "loss mse" in told and f"`{tmp_path / 'student'}`" in told
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), HISTORY)
    settings = compared | {"iterations": 3, "seed": 3}
    assert record.pop("settings_sha256") == json_sha256(settings) and record.pop("device").startswith("cpu")
    assert all(record.pop(name) for name in ("git_commit", "versions", "utc"))
    assert record == {
        "metrics": {
            "images_per_second": 4.0, "batch_size": 4, "peak_memory_gib": 2.5, "passes": 0.3, "train_error": 0.25,
            "held_out_error": 0.75,
        },
        "evaluations": {
            "pairs_forward": 96, "teacher_forward": 6, "student_forward": 24, "student_backward": 12,
            "target_forward": 0, "fake_forward": 0, "fake_backward": 0,
            "discriminator_forward": 0, "discriminator_backward": 0,
        },
        "seed": 3, "processes": 1, "seconds": 7.5, "settings": settings,
    }  # fmt: skip
    assert compared["init"] == "before"
    assert not compared.keys() & {"accumulation", "out", "warmup", "decay", "ema_decay"}


def test_only_the_main_process_writes(given, monkeypatch):
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    _, saved, _, record = given(train_regression.Arguments, iterations=3)
    assert saved == [] and record is None


def test_a_resumed_average_has_its_decay_by_name(tmp_path):
    class Still:
        """A training that changes nothing."""

        averaged = "one"

        def __init__(self):
            self.modules = {"one": torch.nn.Linear(1, 1)}
            self.optimizers = {"one": torch.optim.SGD(self.modules["one"].parameters(), 0.1)}

        def step(self, step):
            return {"loss": 0.0}

    train(Still(), Schedule(2), tmp_path, {}, seed=0, ema_decay=0.5, checkpoint_minutes=0)
    with pytest.raises(UserError, match=r"\(ema_decay was 0.5 and is 0.25\)"):
        train(Still(), Schedule(2), tmp_path, {}, seed=0, ema_decay=0.25)
