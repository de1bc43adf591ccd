"""examples/finetune_with_elatentlpips.py in a few steps: what it prints, and the picture it writes."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffusion2gan.losses import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.toy.openmoji import ATTRIBUTION

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/finetune_with_elatentlpips.py"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the example with the shipped VGG, whose channels all weigh the same."""
    trunk = VGG.load(ROOT / "assets/toy/vgg-latent.safetensors")
    LPIPS(trunk, [torch.ones(width) for width in trunk.widths]).save(tmp_path / "lpips.safetensors")

    def run(*words, metric=tmp_path / "lpips.safetensors"):
        options = ["--out", str(tmp_path / "new/pictures"), "--metric", str(metric)]
        monkeypatch.setattr("sys.argv", [str(EXAMPLE), *options, *words])
        return runpy.run_path(str(EXAMPLE), run_name="__main__")

    return run


def test_fine_tuning_brings_unseen_latents_nearer_than_the_mse_does(run, tmp_path, capsys):
    run("--steps", "30", "--scenes", "64")
    said = re.findall(r"^(.+?) +step +(\d+): LatentLPIPS ([\d.]+), MSE [\d.]+$", capsys.readouterr().out, re.MULTILINE)
    assert [int(step) for _, step, _ in said] == [0, 30] * 3
    first, before = [float(distance) for name, _, distance in said if name == "MSE"]
    longer = [float(distance) for name, _, distance in said if name == "more MSE"]
    after = [float(distance) for name, _, distance in said if name == "E-LatentLPIPS"]
    assert before < first and longer[0] == after[0] == before  # both go on from the same network
    assert after[-1] < 0.95 * before and after[-1] < longer[-1]

    picture = Image.open(tmp_path / "new/pictures/finetuned.png")
    assert picture.info["Copyright"] == ATTRIBUTION


def test_without_the_metric_it_says_what_to_run_first(run, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        run(metric=tmp_path / "absent.safetensors")
    assert re.fullmatch(r"error: no .*absent\.safetensors: run `make demo` first.*", stopped.value.code)
