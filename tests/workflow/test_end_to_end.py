"""The study from nothing to its tables, figures and claims, every script for real, at the smoke scale."""

import html
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from diffusion2gan.generator import Generator

ROOT = Path(__file__).parents[2]
# Left out: rows that differ from others in one setting, which tests/test_rows_to_trainings.py builds, and methods that
# tests/official trains
FEWER = {
    "table1": [
        "regression-lpips", "regression-mse", "regression-elatentlpips", "regression-elatentlpips-large-batch",
    ],
    "table2": [
        "regression-elatentlpips-large-batch", "gan-gigagan", "gan-diffusion-z",
        "gan-diffusion-z-r1-multiscale-mixmatch", "teacher-sd15",
    ],
    "table3": ["teacher-sd15", "gigagan", "dmd", "diffusion2gan"],
    "table4": ["dpm-solver", "diffusion2gan", "teacher-sd15"],
    "table5": ["sdxl-turbo", "sdxl-diffusion2gan", "teacher-sdxl"],
    "table6": ["consistency-distillation", "regression-lpips-50k", "regression-lpips-1000k"],
    "table7": ["regression-elatentlpips", "diffusion2gan"],
    "table8": ["teacher-sd15", "lcm", "ufogen", "dmd", "diffusion2gan"],
    "table8-ablations": ["dmd"],
}  # fmt: skip
COMPARED = {
    "diffusion2gan": ["teacher-sd15"], "diffusion2gan-cfg-8": ["diffusion2gan"], "sdxl-diffusion2gan": ["sdxl-turbo"],
}  # fmt: skip
STUDY = (
    "--config",
    "scale=smoke",
    f"tables={json.dumps({name: {'rows': rows} for name, rows in FEWER.items()})}",
    f"human_study={json.dumps({'comparisons': COMPARED})}",
    "--",
)


@pytest.fixture
def real(workflow):
    """The copy of the workflow with the scripts and weights that this project ships."""
    for name in ("src", "assets"):
        shutil.rmtree(workflow.folder / name)
        (workflow.folder / name).symlink_to(ROOT / name)
    return workflow


@pytest.mark.first
def test_the_whole_study(real):
    """The default target, stopped once on its way: every table, figure and claim, with rows of each kind."""
    real = replace(real, as_typed=True)
    begun = real.run("--cores", "2", *STUDY, interrupt_after=60)
    results = real.folder / "results"
    assert begun.returncode and (real.folder / "work/smoke").exists() and not (results / "claims.csv").exists()
    ran = real.run("--cores", "2", "--rerun-incomplete", *STUDY)
    assert ran.returncode == 0, ran.stdout
    assert not real.plan(*STUDY)

    for number in range(1, 9):
        table = pd.read_csv(results / f"table{number}.csv")
        measured = table[table["source"] == "measured"]
        assert len(measured) and (measured["fid"] > 0).all() and set(measured["scale"]) == {"smoke"}, f"table {number}"
    drawn = {path.name for path in (results / "figures").iterdir()}
    names = {f"figure{number}" for number in range(1, 7)} | {"fid_seconds", "fid_cost", "nfe", "methods"}
    assert drawn == {f"{name}.{kind}" for name in names for kind in ("png", "pdf")}
    claims = pd.read_csv(results / "claims.csv")
    assert (
        set(claims["verdict"]) <= {"holds", "undecided", "fails", "not measured"}
        and (claims["verdict"] != "not measured").any()
    )
    report = html.unescape((results / "report.html").read_text())
    assert all(claim in report for claim in claims["says"])

    run = real.folder / "work/smoke/runs/gan-diffusion-z"
    assert pd.read_csv(run / "history.csv")["step"].max() == 4
    Generator.from_teacher(run / "student")
    record = json.loads((run / "metrics/openmoji.json").read_text())
    assert record["scale"] == "smoke" and record["count"] == 32

    ran = real.run("--cores", "1", *STUDY, "results/runs/gan-diffusion-z.csv", "results/demo.txt")
    assert ran.returncode == 0 and "2 of 2 steps (100%) done" in ran.stdout, ran.stdout
    table = pd.read_csv(results / "runs/gan-diffusion-z.csv")
    assert list(table["table"]) == ["table2"] and table["source"].item() == "measured"
    assert table["fid"].item() > 0 and table["fid_paper"].item() == 11.97
    assert 0 <= table["precision"].item() <= 1

    printed = (results / "demo.txt").read_text()
    scores, snippet = printed.split(f"type in {sys.executable}:\n")
    fid = json.loads((run.parent / "diffusion2gan/metrics/openmoji.json").read_text())["metrics"]["fid"]
    assert re.search(rf"^Teacher +4 .*\n.*\n^Diffusion2GAN +1 +{fid:.1f} ", scores, re.MULTILINE), printed
    ran = subprocess.run([sys.executable, "-c", snippet], cwd=real.folder, capture_output=True, text=True)
    assert ran.returncode == 0 and Image.open(real.folder / "fox.png").size == (64, 64), ran.stderr


def test_coco_at_the_papers_paths(real):
    """The official layout in miniature, under the paths and through the readers of the paper's scale."""
    target = ("--config", "scale=paper", "benchmarks={coco2014: {pictures: 30}}", "--")
    target += ("work/paper/benchmarks/coco2014/prompts.parquet",)
    ran = real.run("--cores", "1", *target)
    assert ran.returncode == 1 and not (real.folder / "work/paper/benchmarks").exists()
    assert "the images data/coco/val2014: unpack http://images.cocodataset.org/zips/val2014.zip (6 GB)" in ran.stdout
    assert "Traceback" not in ran.stdout

    folder = real.folder / "data/coco/val2014"
    folder.mkdir(parents=True)
    content = {"images": [], "annotations": []}
    for i in range(40):
        file = f"COCO_val2014_{i:012d}.jpg"
        Image.new("RGB", (64, 48 + i), (6 * i, 90, 10)).save(folder / file)
        content["images"].append({"id": i, "file_name": file})
        content["annotations"] += [{"id": 10 * i + k, "image_id": i, "caption": f"Picture {i}, {k}."} for k in range(5)]
    (folder.parent / "annotations").mkdir()
    (folder.parent / "annotations/captions_val2014.json").write_text(json.dumps(content))
    ran = real.run("--cores", "1", *target)
    assert ran.returncode == 0, ran.stdout
    made = real.folder / "work/paper/benchmarks/coco2014"
    assert len(pd.read_parquet(made / "prompts.parquet")) == 30 and len(list((made / "images").glob("*.jpg"))) == 40
    assert json.loads((made / "benchmark.json").read_text())["captions_sha256"]


def test_the_cost_of_a_table(real):
    ran = real.run("--cores", "1", "--config", "scale=smoke", "plan=[results/table2.csv]", "--", "results/plan.md")
    assert ran.returncode == 0, ran.stdout
    table = pd.read_csv(real.folder / "results/plan.csv")
    planned = real.plan("--config", "scale=smoke", "--", "results/table2.csv")
    assert table.groupby("rule")["jobs"].sum().to_dict() == planned
    assert "For `results/table2.csv`, from nothing." in (real.folder / "results/plan.md").read_text()
