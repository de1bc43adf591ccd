"""make_run.py, make_table.py, make_figure1.py and make_figure2.py, from files to files."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.sampling.folder import prepare_folder
from diffusion2gan.toy.openmoji import ATTRIBUTION
from scripts.evaluate import measure_cost
from scripts.report import make_figure1, make_figure2, make_run, make_table


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
        prepare_folder(tmp_path / name, {"count": 2, "seed": seed, "captions_sha256": "c"})
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
    with pytest.raises(UserError, match="different noise"):
        make_figure1.main(arguments)


def test_figure2_is_a_table_too(tmp_path):
    (tmp_path / "costs.csv").write_text(
        "loss,part,milliseconds,mebibytes\nLPIPS,total,90,50\nLPIPS,decode,60,\nE-LatentLPIPS,total,10,2\n"
        "E-LatentLPIPS,trunk,8,\n"
    )
    (tmp_path / "costs.json").write_text(json.dumps({"autocast": False, "batch_size": 2, "device": "an abacus"}))
    out = tmp_path / "figure2.png", tmp_path / "figure2.csv"
    make_figure2.main(make_figure2.Arguments(tmp_path / "costs.csv", tmp_path / "costs.json", *out))
    found = {line["row"]: (line["seed"], line["milliseconds"], line["mebibytes"]) for line in lines(out[1])}
    assert found == {
        "LPIPS": ("0", "90", "50"), "LPIPS-decode": ("0", "60", ""),
        "E-LatentLPIPS": ("0", "10", "2"), "E-LatentLPIPS-trunk": ("0", "8", ""),
    }  # fmt: skip
    with Image.open(out[0]) as png:
        assert "time 9.0, memory 25.0" in png.text["Description"]


def test_a_model_without_a_folder_is_refused(tmp_path):
    arguments = make_figure1.Arguments(prompts(tmp_path, ["a cat"]), ["teacher"], tmp_path / "f.png", 6)
    with pytest.raises(UserError, match="NAME=FOLDER"):
        make_figure1.main(arguments)


def test_a_page_shows_what_was_measured_with_its_interval_and_how(tmp_path):
    record = {
        "run": "dpm-solver", "benchmark": "coco2017", "scale": "toy", "seed": 0, "device": "an abacus",
        "metrics": {"fid": 31.5, "inference_seconds": 0.25}, "intervals": {"fid": 1.25},
        "recipe": {"resize_filter": "box"},
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(record))
    page = tmp_path / "t.md"
    rows = ["dpm-solver", "add-m"]
    files = [tmp_path / "a.json"]
    make_table.main(make_table.Arguments("table4", rows, "toy", tmp_path / "t.csv", files, markdown=page))
    first, second = lines(tmp_path / "t.csv")
    assert (first["fid"], first["fid_interval"], first["fid_paper"]) == ("31.5", "1.25", "20.1")
    assert (second["fid"], second["fid_interval"]) == ("", "")
    text = page.read_text()
    head, _, dpm, add = (line for line in text.splitlines() if line.startswith("|"))
    cells = dict(zip(head.split(" | "), dpm.split(" | "), strict=True))
    assert cells["fid"] == "31.5 ± 1.2" and cells["fid, paper"] == "20.1"
    assert dict(zip(head.split(" | "), add.split(" | "), strict=True))["fid"] == "—"
    assert "* resize filter: box" in text and "* device: an abacus" in text


def test_the_cost_of_a_run_is_all_that_it_could_not_do_without(tmp_path):
    for name, seconds, processes in (("gan", 3600, 2), ("regression", 7200, 8)):
        record = {"seconds": seconds, "processes": processes, "seed": 3, "device": "NVIDIA A100-SXM4-80GB"}
        record["metrics"] = {"images_per_second": seconds / 10}
        record["evaluations"] = {"pairs_forward": 5_000_000, "student_forward": 1_000_000, "student_backward": 500_000}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    (tmp_path / "generate_pairs").mkdir()
    timings = [tmp_path / "generate_pairs" / f"{i}.tsv" for i in range(2)]
    for path in timings:
        path.write_text("s\th:m:s\n43200.0\t12:00:00\n")
    trainings = [tmp_path / "gan.json", tmp_path / "regression.json"]

    def cost(**settings):
        defaults = {"run": "diffusion2gan", "scale": "paper", "trainings": trainings, "timings": timings}
        measure_cost.main(measure_cost.Arguments(out=tmp_path / "cost.json", **defaults | settings))
        return json.loads((tmp_path / "cost.json").read_text())

    found = cost()
    assert found["metrics"]["images_per_second"] == 360 * 8 / 2, "of the run itself, not of its start; per 8 GPUs"
    assert found["gpus"] == 2
    assert found["metrics"]["device_days"] == found["metrics"]["a100_days"] == pytest.approx(1 + (2 + 16) / 24)
    assert found["trainings"] == list(map(str, trainings))
    assert found["days"] == {"training": 0.75, "generate_pairs": 1.0} and "A100" in found["conversion"]
    assert (found["metrics"]["nfe_million"], found["metrics"]["nfe_backward_million"]) == (7, 1), "pairs are made once"
    for path in trainings:
        path.write_text(path.read_text().replace("NVIDIA A100-SXM4-80GB", "cpu"))
    found = cost()
    assert "a100_days" not in found["metrics"] and "no conversion to days of an A100" in found["conversion"]
    assert (found["metrics"]["images_per_second"], found["gpus"]) == (360, 0), "as measured on a CPU"
    with pytest.raises(UserError, match="the time of generate_pairs is unknown, because .*9.tsv is missing"):
        cost(timings=[tmp_path / "generate_pairs" / "9.tsv"])
    trainings[0].write_text(trainings[0].read_text().replace("cpu", "abacus"))
    with pytest.raises(UserError, match="trained on abacus and cpu: days on different devices cannot be added"):
        cost()


def test_table7_puts_cost_and_quality_in_one_line(tmp_path):
    measured = json.loads(metrics_file(tmp_path / "a.json", "diffusion2gan", 31.5).read_text())
    cost = measured | {"benchmark": None, "metrics": {"device_days": 0.5}, "conversion": "of an abacus"}
    (tmp_path / "cost.json").write_text(json.dumps(cost))
    out = tmp_path / "t.csv"
    files = [tmp_path / "a.json", tmp_path / "cost.json"]
    rows, columns = ["instaflow", "diffusion2gan"], ["fid", "device_days"]
    make_table.main(make_table.Arguments("table7", rows, "smoke", out, files, columns=columns))
    instaflow, ours = lines(out)
    assert (ours["fid"], ours["device_days"], ours["a100_days"], ours["a100_days_paper"]) == ("31.5", "0.5", "", "43.6")
    assert (instaflow["device_days"], instaflow["a100_days_paper"]) == ("", "183.2")
