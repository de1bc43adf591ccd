"""What a plan counts: the paper's disk to the gigabyte, hours only where somebody measured them."""

import math
from pathlib import Path

import pytest
import yaml

from diffusion2gan.study import cost
from diffusion2gan.study.config import load
from diffusion2gan.study.cost import Job
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]

DRY_RUN = """
Job stats:
job                count
---------------  -------
total                  4

[Mon Nov 23 20:47:05 2026]
rule generate_pairs:
    input: a/prompts.parquet
    output: a/shard-00002.safetensors
    log: logs/x.log
    jobid: 447
    benchmark: {timings}/sd-cfg-3-00002.tsv
    reason: Forced execution
    wildcards: dataset=sd-cfg-3, shard=00002
    resources: tmpdir=/tmp
[Mon Nov 23 20:47:05 2026]
rule train_regression:
    output: runs/regression-mse/student, runs/regression-mse/history.csv
    benchmark: {timings}/regression-mse.tsv
    wildcards: run=regression-mse
    resources: tmpdir=/tmp, nodes=1, gpus=8
[Mon Nov 23 20:47:05 2026]
localrule make_table:
    output: results/table2.csv
    wildcards: table=table2
[Mon Nov 23 20:47:05 2026]
localrule all:
    input: results/table2.csv
    jobid: 0
"""


@pytest.fixture(scope="module")
def paper():
    return Study(load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": "paper"}, ROOT))


def of_pairs(study, name):
    return [Job("generate_pairs", {"dataset": name, "shard": f"{i:05d}"}, None) for i in range(500)]


@pytest.mark.parametrize(
    ("dataset", "gigabytes", "written"),
    [("sd-cfg-3", 98, "98 GB"), ("sd-cfg-8", 393, "393 GB"), ("sdxl-cfg-7", 1049, "1.05 TB")],
)
def test_the_papers_data_sets_take_what_they_take(paper, dataset, gigabytes, written):
    jobs = of_pairs(paper, dataset)
    table = cost.plan(paper, jobs)
    assert table["jobs"].item() == table["files"].item() == 500
    assert round(table["disk_gb"].item()) == gigabytes
    text = cost.markdown(paper, table, [], free=1e15)
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {dataset} "))
    assert f" {written} |" in line and "not asked for" not in line
    assert "not enough" in cost.markdown(paper, table, [], free=1e9)


def test_the_paper_s_hours(paper):
    (table3,) = cost.plan(paper, of_pairs(paper, "sd-cfg-3"))["gpu_hours"]
    assert table3 / 24 == pytest.approx(89.9, abs=0.1)  # A100-days of 3 M pairs in 2.59 s each
    table = cost.plan(paper, [Job("train_regression", {"run": "regression-elatentlpips"}, None)])
    assert table["gpu_hours"].item() / 24 == pytest.approx(36.0, abs=0.01)
    assert table["hours"].item() == pytest.approx(36.0 * 24 / 8, abs=0.1)
    assert "Table 7" in table["basis"].item()


def test_an_unknown_hour_is_empty_and_said_to_be_unknown(paper):
    jobs = [Job("train_vgg", {"trunk": "latent-sd15"}, None), *of_pairs(paper, "sd-cfg-3")]
    table = cost.plan(paper, jobs)
    assert math.isnan(table.loc[table["rule"] == "train_vgg", "gpu_hours"].item())
    text = cost.markdown(paper, table, ["results/table2.csv"], free=1e15)
    assert "**2,158 GPU-hours** (90 GPU-days), and train_vgg, whose time nobody has measured yet" in text
    assert "`results/table2.csv`" in text and "nan" not in text


def test_what_ran_here_counts_before_what_the_paper_says(paper, tmp_path):
    jobs = of_pairs(paper, "sd-cfg-3")
    jobs[7] = Job(jobs[7].rule, jobs[7].wildcards, tmp_path / "seven.tsv")
    (tmp_path / "seven.tsv").write_text("s\th:m:s\n3600.0\t1:00:00\n")
    (row,) = cost.plan(paper, jobs).itertuples()
    assert row.gpu_hours == pytest.approx(500) and row.basis == "measured here"
    (row,) = cost.plan(paper, of_pairs(paper, "sd-cfg-8")[:1] + jobs[7:8]).query("subject == 'sd-cfg-8'").itertuples()
    assert row.gpu_hours == pytest.approx(4)  # the same teacher, four times the pairs in a shard


def test_the_jobs_are_those_of_the_dry_run(tmp_path):
    jobs = cost.planned(DRY_RUN.format(timings=tmp_path))
    assert [job.rule for job in jobs] == ["generate_pairs", "train_regression", "make_table"]
    assert jobs[0].wildcards == {"dataset": "sd-cfg-3", "shard": "00002"}
    assert [job.timing for job in jobs] == [tmp_path / "sd-cfg-3-00002.tsv", tmp_path / "regression-mse.tsv", None]


def test_the_labelled_latents_of_all_shards(paper):
    jobs = [Job("encode_latents", {"teacher": "sd15", "split": "train", "shard": f"{i:05d}"}, None) for i in range(103)]
    table = cost.plan(paper, jobs)
    assert table["disk_gb"].sum() == pytest.approx(2_562_334 * (2 * 4 * 64 * 64 + 8) / 1e9, rel=1e-6)
