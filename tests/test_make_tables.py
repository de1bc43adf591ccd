"""make_run.py, make_table.py and make_figure1.py, from files to files."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import make_figure1
import make_run
import make_table
from diffusion2gan import samples
from diffusion2gan.datasets.openmoji import ATTRIBUTION
from diffusion2gan.errors import UserError


def metrics_file(path, run, fid):
    record = {"run": run, "benchmark": "coco2014", "scale": "smoke", "seed": 0, "metrics": {"fid": fid}}
    path.write_text(json.dumps(record))
    return path


def lines(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_is_made_and_shown(tmp_path, capsys):
    files = [metrics_file(tmp_path / "a.json", "gan-diffusion", 31.5)]
    rows = ["gan-gigagan", "gan-diffusion"]
    make_table.main(make_table.Arguments("table2", rows, "smoke", tmp_path / "out" / "table2.csv", files))
    first, second = lines(tmp_path / "out" / "table2.csv")
    assert [first["fid"], first["fid_paper"], second["fid"], second["fid_paper"]] == ["", "13.97", "31.5", "12.04"]
    assert "31.5 (12.04)" in capsys.readouterr().out


def test_a_run_is_made(tmp_path):
    file = metrics_file(tmp_path / "a.json", "gan-diffusion", 31.5)
    make_run.main(make_run.Arguments("gan-diffusion", [file], tmp_path / "gan-diffusion.csv"))
    (line,) = lines(tmp_path / "gan-diffusion.csv")
    assert (line["table"], line["fid"], line["fid_paper"], line["scale"]) == ("table2", "31.5", "12.04", "smoke")


@pytest.fixture
def drawings(tmp_path):
    """Pictures of two models, of one colour each, and their prompts."""

    def draw(name, colour, seed=0):
        samples.create(tmp_path / name, {"count": 2, "seed": seed, "captions_sha256": "c"})
        for i in range(2):
            Image.new("RGB", (8, 8), colour).save(tmp_path / name / f"{i:05d}.png")
        return f"{name}={tmp_path / name}"

    return draw


def prompts(tmp_path, captions):
    path = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(len(captions)), "caption": captions}).to_parquet(path)
    return path


def test_the_teacher_comes_first_and_openmoji_is_credited(tmp_path, drawings):
    models = [drawings("student", (255, 0, 0)), drawings("teacher-sd15", (0, 0, 255))]
    captions = ["a red apple on a blue background", "a fox on a green background"]
    out = tmp_path / "figure1.png"
    make_figure1.main(make_figure1.Arguments(prompts(tmp_path, captions), models, out, count=2))
    with Image.open(out) as png:
        assert png.text["Copyright"] == ATTRIBUTION and "teacher-sd15, student" in png.text["Description"]
        pixels = np.asarray(png.convert("RGB")).astype(int)
    blue, red = ((pixels == colour).all(axis=2).nonzero()[1].mean() for colour in ((0, 0, 255), (255, 0, 0)))
    assert blue < red


def test_other_pictures_are_nobodys_emoji(tmp_path, drawings):
    out = tmp_path / "figure1.png"
    models = [drawings("a", "red")]
    make_figure1.main(make_figure1.Arguments(prompts(tmp_path, ["a cat", "a dog"]), models, out, count=2))
    with Image.open(out) as png:
        assert "Copyright" not in png.text


def test_rows_of_other_noise_are_refused(tmp_path, drawings):
    models = [drawings("a", "red"), drawings("b", "blue", seed=1)]
    arguments = make_figure1.Arguments(prompts(tmp_path, ["a cat", "a dog"]), models, tmp_path / "f.png", count=2)
    with pytest.raises(UserError, match="other noise"):
        make_figure1.main(arguments)


def test_a_model_without_a_folder_is_refused(tmp_path):
    arguments = make_figure1.Arguments(prompts(tmp_path, ["a cat"]), ["teacher"], tmp_path / "f.png")
    with pytest.raises(UserError, match="NAME=FOLDER"):
        make_figure1.main(arguments)
