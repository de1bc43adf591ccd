"""A training on several nodes of a real SLURM, warned and requeued, equals the training in one process."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from training import worker

from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import Fitting
from diffusion2gan.training import adversarial

pytestmark = pytest.mark.xdist_group("slurm")
ROOT = Path(__file__).parents[2]


def test_two_nodes_of_two_processes_are_one_process_also_when_slurm_warns_them(head, small_teacher_folder, monkeypatch):
    shutil.copy(Path(__file__).with_name("faults.smk"), head.folder / "Snakefile")
    torch.manual_seed(0)
    trunk = VGG("latent", 4, 0, width=0.125)
    metric = head.folder / "metric.safetensors"
    LPIPS(trunk, [torch.rand(width, dtype=torch.float64) for width in trunk.widths]).save(metric)
    config = ["--config", f"root={ROOT}", f"teacher={small_teacher_folder}", f"metric={metric}"]
    running = head.start(*config, "--", "training/outcome.pt")
    for process in range(4):
        head.made(f"training/waits-{process}")
    subprocess.run(["scancel", "--signal=USR2", "--name=trains"], check=True)
    monkeypatch.setattr(adversarial, "single_sample_r1", worker.r1_in_parts(itertools.repeat(4)))
    alone = worker.outcome("gan", str(small_teacher_folder), str(metric), head.folder / "alone", Fitting())

    assert running.wait(600) == 0, head.log.read_text() + (head.folder / "logs/trains.log").read_text()
    together = torch.load(head.folder / "training/outcome.pt", weights_only=True)
    assert (together["processes"], alone["processes"]) == (4, 1)
    torch.testing.assert_close(together["weights"], alone["weights"], rtol=0, atol=1e-6)
    for name, values in together["losses"].items():
        assert alone["history"][name] == pytest.approx(values, rel=1e-6, nan_ok=True), name
