"""Two processes, micro-batches and sharded weights compute what one process computes on the whole batch."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import Fitting
from diffusion2gan.training import distributed

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
KINDS = ("regression", "gan", "gigagan")


@pytest.fixture(scope="module")
def files(small_teacher_folder, tmp_path_factory):
    """The teacher, a metric, and a folder for what the trainings write."""
    folder = tmp_path_factory.mktemp("parallel")
    torch.manual_seed(0)
    trunk = VGG("latent", 4, 0, width=0.125)
    LPIPS(trunk, [torch.rand(width, dtype=torch.float64) for width in trunk.widths]).save(folder / "metric.safetensors")
    return str(small_teacher_folder), str(folder / "metric.safetensors"), folder


@pytest.fixture(scope="module")
def alone(files):
    """Each training in this process, its batch in one piece."""
    outcome = runpy.run_path(str(WORKER))["outcome"]
    *given, folder = files
    return {kind: outcome(kind, *given, folder / f"alone-{kind}", Fitting()) for kind in KINDS}


@pytest.fixture(scope="module")
def together(files):
    """The folder with the results of two processes, started as by the launcher."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "src/scripts/launch.py"), "--gpus", "2", str(WORKER), *map(str, files)]
    ran = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert "torch.distributed.run --nproc-per-node 2 --standalone" in ran.stderr
    return files[-1]


def check(result, expected, drawn=1):
    """Equal weights and numbers; `drawn` is how often G runs on a batch in a step."""
    torch.testing.assert_close(result["weights"], expected["weights"], rtol=0, atol=1e-6)
    for term, values in expected["history"].items():
        times = drawn if term == "generator_evaluations" else 1
        assert result["history"][term] == pytest.approx([times * value for value in values], rel=1e-6, nan_ok=True), (
            term
        )


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_are_the_batch(files, alone, kind):
    *given, folder = files
    outcome = runpy.run_path(str(WORKER))["outcome"]
    fitting = Fitting(accumulation=4, gradient_checkpointing=True)
    check(outcome(kind, *given, folder / f"accumulated-{kind}", fitting), alone[kind], 1 if kind == "regression" else 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fitting", ["ddp", "accumulated", "fsdp"])
def test_two_processes_are_one(alone, together, fitting, kind):
    result = torch.load(together / f"{fitting}-{kind}.pt", weights_only=True)
    assert (result["processes"], alone[kind]["processes"]) == (2, 1)
    check(result, alone[kind], 2 if fitting == "accumulated" and kind != "regression" else 1)


def test_a_vgg_trains_in_two_processes(files, together):
    *given, folder = files
    expected = runpy.run_path(str(WORKER))["outcome"]("vgg", *given, folder / "alone-vgg", Fitting())
    result = torch.load(together / "ddp-vgg.pt", weights_only=True)
    assert result["processes"] == 2
    torch.testing.assert_close(result["weights"], expected["weights"], rtol=0, atol=1e-4)  # in single precision
    assert result["history"]["loss"] == pytest.approx(expected["history"]["loss"], rel=1e-5)


def test_the_trainings_moved(alone, small_teacher_folder):
    """The weights compared above differ from the initial ones."""
    fresh = runpy.run_path(str(WORKER))["Generator"].from_teacher(small_teacher_folder).state_dict()
    for kind in KINDS:
        moved = [not torch.allclose(alone[kind]["weights"]["student"][name].float(), fresh[name]) for name in fresh]
        assert sum(moved) > 0.9 * len(moved)


def test_rows_cover_the_batch_once(monkeypatch):
    class State:
        num_processes = 4

        def __init__(self, process_index):
            self.process_index = process_index

    rows = []
    for process in range(4):
        monkeypatch.setattr(distributed, "processes", lambda process=process: State(process))
        mine = distributed.parts(24, accumulation=2)
        assert len(mine) == 2
        rows += [row for part in mine for row in range(24)[part]]
    assert rows == list(range(24))


@pytest.mark.parametrize(("size", "accumulation"), [(9, 2), (2, 4)])
def test_a_batch_that_does_not_divide_is_an_error(size, accumulation):
    with pytest.raises(UserError, match=f"a batch of {size} does not divide among 1 process with {accumulation} micro"):
        distributed.parts(size, accumulation)
