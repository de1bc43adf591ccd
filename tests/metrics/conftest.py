"""A benchmark and folders of samples, to score."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from diffusion2gan.metrics import features
from diffusion2gan.sampling.folder import prepare_folder
from diffusion2gan.toy.openmoji import Scenes
from diffusion2gan.toy.source import OpenMoji
from scripts.evaluate.score import Arguments, main

COUNT = 8
SHIPPED_CLIP = Path(__file__).parents[2] / "assets" / "toy" / "clip"  # trained, so it tells one picture from another


@pytest.fixture
def benchmark(tmp_path, teacher_folder):
    """Twelve real scenes as benchmark, and eight others sampled for its first prompts."""
    folder = tmp_path / "coco2014"
    (folder / "images").mkdir(parents=True)
    scenes, others = Scenes("benchmark", 0, 32), Scenes("benchmark", 1, 32)
    for i in range(12):
        Image.fromarray(scenes[i].image).save(folder / "images" / f"{i:05d}.png")
    rows = [{"caption": scenes[i].prompt.caption, **vars(scenes[i].prompt)} for i in range(12)]
    pd.DataFrame(rows).to_parquet(folder / "prompts.parquet")
    (folder / "benchmark.json").write_text(json.dumps({"pictures": 12, "classes": OpenMoji().classes()}))
    recipe = {
        "model": str(teacher_folder),
        "count": COUNT,
        "steps": 2,
        "guidance": 2.0,
        "scheduler": "ddim",
        "spacing": "own",
        "seed": 0,
    }
    recipe["precision"] = "float32"
    prepare_folder(tmp_path / "drawn", recipe)
    for i in range(COUNT):
        Image.fromarray(others[i].image).save(tmp_path / "drawn" / f"{i:05d}.png")
    return folder


@pytest.fixture
def colours(monkeypatch):
    """A feature network whose features are the mean colour, a cheap and known one."""
    monkeypatch.setitem(features.NETWORKS, "efficientnet-lite0", lambda device: lambda pixels: pixels.mean((2, 3)))


def score(benchmark, **settings):
    out = benchmark.parent / "metrics" / "coco2014.json"
    defaults = {"run": "mine", "scale": "smoke", "features": "efficientnet-lite0", "resolution": 32, "feature_side": 32}
    main(Arguments(images=benchmark.parent / "drawn", benchmark=benchmark, out=out, **defaults | settings))
    return json.loads(out.read_text())


@pytest.fixture
def drawer(benchmark, tmp_path):
    """Writes folders of scenes as sample.py would."""

    def draw(name, seed, count=COUNT, repeats=1, **recipe):
        scenes = Scenes("benchmark", seed, 32)
        prepare_folder(tmp_path / name, {"count": count, "repeats": repeats, "seed": 0, **recipe})
        for i in range(count):
            Image.fromarray(scenes[i].image).save(tmp_path / name / f"{i:05d}.png")
        return tmp_path / name

    return draw
