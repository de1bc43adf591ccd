"""One ablation from nothing to its numbers, every script for real, at the smoke scale."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from diffusion2gan.generator import Generator

ROOT = Path(__file__).parents[2]
TARGET = ("--config", "scale=smoke", "--", "results/runs/gan-diffusion-z.csv")


@pytest.fixture
def real(workflow):
    """The copy of the workflow with the scripts and weights that this project ships."""
    for name in ("src", "assets"):
        shutil.rmtree(workflow.folder / name)
        (workflow.folder / name).symlink_to(ROOT / name)
    return workflow


def test_one_ablation(real):
    ran = real.run("--cores", "2", *TARGET)
    assert ran.returncode == 0, ran.stdout

    table = pd.read_csv(real.folder / "results/runs/gan-diffusion-z.csv")
    assert list(table["table"]) == ["table2"] and table["source"].item() == "measured"
    assert table["fid"].item() > 0 and table["fid_paper"].item() == 11.97
    assert 0 <= table["precision"].item() <= 1

    run = real.folder / "work/smoke/runs/gan-diffusion-z"
    history = pd.read_csv(run / "history.csv")
    assert history["step"].max() == 16
    Generator.from_teacher(run / "student")
    record = json.loads((run / "metrics/openmoji.json").read_text())
    assert record["scale"] == "smoke" and record["count"] == 64

    assert not real.plan(*TARGET)


def test_the_cost_of_a_table(real):
    ran = real.run("--cores", "1", "--config", "scale=smoke", "plan=[results/table2.csv]", "--", "results/plan.md")
    assert ran.returncode == 0, ran.stdout
    table = pd.read_csv(real.folder / "results/plan.csv")
    planned = real.plan("--config", "scale=smoke", "--", "results/table2.csv")
    assert table.groupby("rule")["jobs"].sum().to_dict() == planned
    assert "For `results/table2.csv`, from nothing." in (real.folder / "results/plan.md").read_text()
