"""The records behind a number: everything in its files, seed by seed, and the training that it depends on."""

import json
from pathlib import Path

import pytest
import yaml

from diffusion2gan.report import records
from diffusion2gan.report.inputs import read_metrics
from diffusion2gan.study.config import load
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    return Study(load(config | {"scale": "smoke", "seeds": 2}, ROOT))


def recorded(path, **said):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": "gan-diffusion", "benchmark": "openmoji", "scale": "smoke", "seed": 0} | said))
    return path


def entries(study, paths):
    return {entry.anchor: entry for entry in records.entries(read_metrics(paths), study)}


def test_seeds_stand_side_by_side_in_order(tmp_path, study):
    files = [
        recorded(tmp_path / f"gan-diffusion{end}/metrics/openmoji.json", seed=seed, metrics={"fid": fid}, **more)
        for end, seed, fid, more in (("-seed1", 1, 30.5, {"parts": {"clip": 2.0}}), ("", 0, 31.5, {}))
    ]
    (entry,) = entries(study, [*files, files[0]]).values()
    assert entry.parts["metrics"] == {"fid": [31.5, 30.5]}
    assert entry.parts[""]["seed"] == [0, 1] and entry.parts[""]["path"] == [files[1], files[0]]
    assert entry.parts["parts"] == {"clip": [None, 2.0]}


def test_what_the_settings_repeat_is_said_once(tmp_path, study):
    recipe = {"resize_filter": "box", "crop": {"side": 64}}
    settings = {"recipe": recipe, "metrics": ["fid"]}
    file = recorded(tmp_path / "r/metrics/openmoji.json", metrics={"fid": 1.0}, recipe=recipe, settings=settings)
    (entry,) = entries(study, [file]).values()
    assert "recipe" not in entry.parts and entry.parts["metrics"] == {"fid": [1.0]}
    wanted = {"recipe.resize_filter": ["box"], "recipe.crop.side": [64], "metrics": [["fid"]]}
    assert entry.parts["settings"] == wanted


def test_the_training_and_those_it_starts_from_are_behind_a_number(tmp_path, study):
    file = recorded(tmp_path / "gan-diffusion-seed1/metrics/openmoji.json", seed=1, metrics={"fid": 1.0})
    begun = tmp_path / "regression-mse-seed1"
    for folder, settings in ((file.parents[1], {"init": str(begun / "student")}), (begun, {})):
        training = folder / "metrics/training.json"
        training.parent.mkdir(parents=True, exist_ok=True)
        training.write_text(json.dumps({"seed": 1, "metrics": {"batch_size": 8}, "settings": settings}))
    found = entries(study, [file])
    assert list(found) == ["gan-diffusion-openmoji", "gan-diffusion-training", "regression-mse-training"]
    trained = records.trained(list(found.values()))
    assert trained[str(begun / "student")] == "regression-mse-training"


def test_each_metric_leads_to_the_file_that_holds_it(tmp_path, study):
    scored = recorded(tmp_path / "r/metrics/openmoji.json", metrics={"fid": 1.0})
    cost = recorded(tmp_path / "r/metrics/cost.json", metrics={"device_days": 0.5}, benchmark=None)
    assert records.anchors(list(entries(study, [scored, cost]).values())) == {
        ("gan-diffusion", "openmoji", "fid"): "gan-diffusion-openmoji",
        ("gan-diffusion", "cost", "device_days"): "gan-diffusion-cost",
    }
