"""What is missing is said before the first job."""

from pathlib import Path

import pytest
import yaml

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import dreamsim
from diffusion2gan.study import preflight
from diffusion2gan.study.config import load
from diffusion2gan.study.study import Study
from diffusion2gan.training import watch

ROOT = Path(__file__).parents[2]
HUB = ["facebookresearch_dino_main", "checkpoints/dino_vitbase16_pretrain.pth"]


def check(folder, row, benchmark="coco2017", scale="paper"):
    study = Study(load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": scale}, ROOT))
    preflight.check(study, folder, [("score", {"run": row, "benchmark": benchmark})], [])


def test_dreamsim_s_weights_and_dino_are_there_before_the_first_job(tmp_path, monkeypatch):
    monkeypatch.setattr(dreamsim, "CACHE", tmp_path)
    with pytest.raises(UserError, match="lacks ensemble_lora, facebookresearch_dino_main, checkpoints/") as error:
        check(tmp_path, "sdxl-diffusion2gan")
    assert "\n" not in str(error.value) and "torch.hub" in str(error.value)
    (tmp_path / "ensemble_lora").mkdir()
    with pytest.raises(UserError, match="lacks facebookresearch_dino_main"):  # which the archive of weights has not
        check(tmp_path, "sdxl-diffusion2gan")
    for name in HUB:
        (tmp_path / name).mkdir(parents=True)
    check(tmp_path, "sdxl-diffusion2gan")


def test_a_tracker_that_is_not_installed_is_named_before_the_first_job(tmp_path, monkeypatch):
    monkeypatch.setitem(watch.AVAILABLE, "wandb", lambda: False)
    study = Study(
        load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": "toy", "report_to": "wandb"}, ROOT)
    )
    with pytest.raises(UserError, match="pip install wandb"):
        preflight.check(study, tmp_path, [], [])


def test_dreamsim_is_asked_for_only_where_a_table_wants_it(tmp_path, monkeypatch):
    monkeypatch.setattr(dreamsim, "CACHE", tmp_path)
    check(tmp_path, "instaflow")
    check(tmp_path, "sdxl-diffusion2gan", "openmoji", "toy")
