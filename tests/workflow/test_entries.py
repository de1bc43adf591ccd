"""A published pipeline goes through `sample` and `score` by its entry in config.yaml alone."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

from diffusion2gan.metrics import features
from diffusion2gan.sampling.folder import image_paths
from diffusion2gan.study import cli
from diffusion2gan.study.config import load, merge
from diffusion2gan.study.study import Study
from scripts.evaluate import sample, score

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "openmoji"
    (folder / "images").mkdir(parents=True)
    for i in range(4):
        Image.new("RGB", (64, 64), (60 * i, 100, 200)).save(folder / "images" / f"{i:05d}.png")
    captions = ["a red apple on a blue background", "a fox on a green background"]
    pd.DataFrame({"prompt_id": range(2), "caption": captions}).to_parquet(folder / "prompts.parquet")
    return folder


@pytest.fixture
def x0_unet(xl_folder, tmp_path):
    """Other weights for an SDXL's U-Net, as SDXL-Lightning is published; and DMD2's, which are not safetensors."""
    weights = UNet2DConditionModel.from_pretrained(xl_folder, subfolder="unet").state_dict()
    save_file(weights, tmp_path / "x0.safetensors")
    return tmp_path / "x0.safetensors"


@pytest.fixture
def dmd2_unet(small_teacher_folder, tmp_path):
    weights = UNet2DConditionModel.from_pretrained(small_teacher_folder, subfolder="unet").state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    return tmp_path / "pytorch_model.bin"


@pytest.mark.parametrize(
    ("row", "folder", "unet", "entry"),
    [
        ("instaflow-published", "small_teacher_folder", None, {}),
        ("dmd2-published", "small_teacher_folder", "dmd2_unet", {}),
        ("sdxl-turbo-published", "xl_folder", None, {}),
        ("sdxl-lightning-published", "xl_folder", "x0_unet", {}),
        ("pixart-alpha", "pixart_folder", None, {"steps": 2}),
        ("lcm-dreamshaper", "lcm_folder", None, {"scheduler": "own", "steps": 2, "guidance": 8.5}),
    ],
)
def test_an_entry_is_all_that_a_model_needs(row, folder, unet, entry, request, benchmark, tmp_path, monkeypatch):
    monkeypatch.setitem(features.NETWORKS, "efficientnet-lite0", lambda device: lambda pixels: pixels.mean((2, 3)))
    entry |= {"pipeline": str(request.getfixturevalue(folder)), "resolution": 64}
    entry |= {"unet": str(request.getfixturevalue(unet))} if unet else {}
    config = load(merge(CONFIG, {"scale": "smoke", "models": {row: entry}}), ROOT)
    study = Study(config)
    assert row in study.measured

    told = {"model": study.models[row].pipeline, **study.sampling(row), "prompts": benchmark / "prompts.parquet"}
    told |= {"count": 2, "out": tmp_path / "drawn"}
    sample.main(cli.parse(sample.Arguments, shlex.split(cli.arguments(told))))
    pictures = [Image.open(file) for file in image_paths(tmp_path / "drawn")]
    assert [picture.size for picture in pictures] == [(64, 64)] * 2 and pictures[0].tobytes() != pictures[1].tobytes()

    told = {
        "images": tmp_path / "drawn",
        "benchmark": benchmark,
        "run": row,
        "scale": "smoke",
        "metrics": ["fid", "kid"],
    }
    told |= {
        "features": "efficientnet-lite0",
        "feature_side": 32,
        "resolution": 64,
        "time": True,
        "out": tmp_path / "metrics.json",
    }
    score.main(cli.parse(score.Arguments, shlex.split(cli.arguments(told))))
    result = json.loads((tmp_path / "metrics.json").read_text())
    assert result["metrics"]["inference_seconds"] > 0 and result["metrics"]["steps"] == study.models[row].steps
    assert result["metrics"]["params_billion"] > 0 and result["run"] == row
