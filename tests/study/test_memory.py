"""Memory of a GPU in the plan: a batch that exceeds it is refused in one line; at the paper's scale all runs fit."""

import math
from pathlib import Path

import pytest
import yaml

from diffusion2gan.errors import UserError
from diffusion2gan.memory.training import Training
from diffusion2gan.study import cost, plan
from diffusion2gan.study.config import load
from diffusion2gan.study.cost import Job
from diffusion2gan.study.entries import STAGES
from diffusion2gan.study.memory import GIB, Memory, training
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]
RULES = {stage: f"train_{stage}" for stage in STAGES}


def study(scale="paper", **changes):
    return Study(load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": scale} | changes, ROOT))


@pytest.fixture
def three_gib_a_sample(monkeypatch):
    """A training takes 20 GiB, and 3 for each sample of a micro-batch, or 1 with gradient checkpointing."""
    counted = []

    def count(self):
        counted.append(self)
        each = 1 if self.fitting.gradient_checkpointing else 3
        return (20 + each * self.settings.batch_size // self.fitting.accumulation) * GIB

    monkeypatch.setattr(Training, "count", count)
    return counted


def of(batch):
    return {"gan": {"batch": {"base": batch | {"nodes": 1, "gpus": 8}}}}


def test_a_batch_that_exceeds_a_gpu_is_refused_with_one_that_fits(three_gib_a_sample):
    planned = [("train_gan", {"run": "gan-diffusion"})]
    said = "scales/paper.yaml: gan.batch.base: gan-diffusion needs 116 GiB of a GPU, more than 72 of gpu_memory (80): "
    with pytest.raises(UserError) as refused:
        Memory(study(**of({"size": 256, "accumulation": 1}))).check(planned)
    assert str(refused.value) == said + "set accumulation: 2 (68 GiB)"
    Memory(study(**of({"size": 256, "accumulation": 2}))).check(planned)


def test_where_more_micro_batches_do_not_help_checkpointing_or_sharding_is_named(three_gib_a_sample, monkeypatch):
    planned = [("train_gan", {"run": "gan-diffusion"})]
    small = study(**of({"size": 256, "accumulation": 1}), gpu_memory=24)
    with pytest.raises(UserError, match=r"accumulation: 32 and gradient_checkpointing: true \(21 GiB\)"):
        Memory(small).check(planned)
    with pytest.raises(UserError, match="more micro-batches do not help; set shard: true, or use more GPUs"):
        Memory(study(**of({"size": 256}), gpu_memory=16)).check(planned)


def test_a_count_is_kept_until_the_code_changes(three_gib_a_sample, tmp_path):
    for _ in range(2):
        memory = Memory(study(), tmp_path / "memory.json")
        one, same = (memory.gib("train_regression", {"run": f"regression-{name}"}) for name in ("mse", "elatentlpips"))
    assert one == same == 20 + 3 * 32 and len(three_gib_a_sample) == 1
    kept = (tmp_path / "memory.json").read_text()
    (tmp_path / "memory.json").write_text(kept.replace('"code": "', '"code": "0'))
    Memory(study(), tmp_path / "memory.json").gib("train_regression", {"run": "regression-mse"})
    assert len(three_gib_a_sample) == 2


def test_a_large_batch_on_more_gpus_needs_the_same_as_a_small_one_on_few(three_gib_a_sample):
    memory = Memory(study())
    for run in ("regression-elatentlpips", "regression-elatentlpips-large-batch"):
        memory.gib("train_regression", {"run": run})
    assert len(three_gib_a_sample) == 1


def test_the_plan_shows_what_each_job_takes(three_gib_a_sample):
    paper = study()
    table = cost.plan(paper, [Job("train_regression", {"run": "regression-mse"}, None)], Memory(paper).gib)
    text = plan.markdown(paper, table, [], free=1e15)
    assert "| train_regression | regression-mse | 864 | 116 |" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| train_regression | 1 |"))
    assert row.split("|")[5].strip() == "116"


def test_a_scale_without_gpus_counts_nothing(three_gib_a_sample):
    assert math.isnan(Memory(study("toy")).gib("train_regression", {"run": "regression-mse"}))
    assert not three_gib_a_sample


LESS = {  # differ from these in nothing that takes memory, or do less
    "dmd-without-regression": "dmd", "progressive-1": "progressive-guided",
    "sdxl-progressive-8": "sdxl-progressive-guided",
}  # fmt: skip


def distinct_runs():
    """The runs of the tables and those that they start from, one for each distinct training."""
    paper = study()
    shown = [row for table in paper.tables.values() for row in table.rows if row in paper.runs]
    rows = dict.fromkeys(run for row in shown for run in paper.lineage(row))
    return sorted(set({repr(training(paper, paper.runs[row])): row for row in rows}.values()) - LESS.keys())


@pytest.mark.parametrize("run", distinct_runs())
def test_every_run_of_the_paper_fits_its_gpus(run):
    """Counted at full size, which takes up to a minute of a core."""
    paper = study()
    memory = Memory(paper)
    memory.check([(RULES[paper.runs[run].stage], {"run": run})])
    assert 5 < memory.gib(RULES[paper.runs[run].stage], {"run": run}) <= 72
