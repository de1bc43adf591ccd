"""The rows, sizes and settings of the paper's scale are the paper's."""

import pandas as pd
import pytest
from study.conftest import ROOT, study

from diffusion2gan.evaluations import Evaluations, combined, evaluations_per_pair
from diffusion2gan.study import options
from diffusion2gan.study.entries import BatchEntry
from diffusion2gan.study.paths import Paths


@pytest.mark.parametrize("scale", ["smoke", "toy", "paper"])
def test_the_rows_of_each_table_are_the_papers(scale):
    reported = pd.read_csv(ROOT / "src/diffusion2gan/report/reported.csv", dtype=str)
    tables = study(scale).tables
    assert list(tables) == [*(f"table{number}" for number in range(1, 9)), "table8-ablations"]  # the last two are ours
    for number, rows in reported.groupby("table")["row"].unique().items():
        ours = tables[f"table{number}"].rows
        assert [row for row in ours if row in set(rows)] == list(rows)
        assert set(ours) - set(rows) <= {
            "dmd2",
            "dmd2-published",
            "instaflow-published",
            "sdxl-turbo-published",
            "sdxl-lightning-published",
            "dpm-solver-4",
            "ddim-1",
            "ddim-2",
            "ddim-4",
            "consistency-distillation-equal",
            "regression-l1",
            "regression-elatentlpips-bilinear",
        }


def switch(run, idea: str):
    """What a run says of an idea; a regression has none of them."""
    return getattr(run.settings, idea, False)


def test_each_row_of_table2_adds_one_idea():
    runs = study().runs
    rows = [row for row in study().tables["table2"].rows if row in runs]
    ideas = ("discriminator", "z_conditioning", "r1", "multi_scale", "mix_and_match")
    for before, after in zip(rows, rows[1:], strict=False):
        assert sum(switch(runs[before], idea) != switch(runs[after], idea) for idea in ideas) == 1
    assert all(runs[row].init == rows[0] for row in rows[1:])


def test_the_papers_sizes():
    paper = study("paper")
    assert paper.datasets["sd-cfg-3"].pairs == 3_000_000 and paper.datasets["sd-cfg-3"].shards <= 500
    assert paper.steps("sd15", "ddim") == 50 and paper.steps("sd15", "dpm-solver") == 25
    assert paper.runs["regression-elatentlpips"].batch == BatchEntry(size=256, nodes=1, gpus=8)
    assert paper.runs["regression-elatentlpips"].settings.iterations == 20_000
    assert paper.runs["regression-elatentlpips-large-batch"].batch == BatchEntry(size=2048, nodes=8, gpus=8)
    assert paper.runs["gan-diffusion"].batch == BatchEntry(size=256, nodes=2, gpus=8, accumulation=2)
    assert paper.runs["diffusion2gan"].batch == BatchEntry(size=1024, nodes=8, gpus=8, accumulation=2)
    assert paper.runs["gan-diffusion-z-r1"].settings.r1_every == 16
    lpips = paper.runs["regression-lpips"].batch
    assert (lpips.size, lpips.accumulation, lpips.size // lpips.accumulation) == (256, 4, 64)
    own = {"accumulation": 4, "gradient_checkpointing": True}
    assert lpips.fitting == {"shard": False, "compile": False, "checkpoint_minutes": 15} | own


def test_a_part_of_a_dataset_is_solved_as_the_whole():
    datasets = study("paper").datasets
    part, whole = datasets["cifar10-50k"], datasets["cifar10-1000k"]
    assert (part.part_of, part.pairs) == ("cifar10-1000k", 50_000)
    assert (part.teacher, part.guidance, part.prompts) == (whole.teacher, whole.guidance, whole.prompts)


def test_held_out_pairs_are_made_beyond_those_that_the_paper_trains_on():
    paper = study("paper")
    assert (paper.datasets["sd-cfg-3"].pairs, paper.datasets["sd-cfg-3"].made) == (3_000_000, 3_001_000)
    assert options.prompts(paper, "sd-cfg-3")["count"] == options.solving(paper, "sd-cfg-3")["count"] == 3_001_000
    for run, pairs in {"regression-lpips-50k": {"first": 50_000}, "regression-lpips": {}}.items():
        given = options.training(paper, Paths(paper), run)
        assert given["held_out"] == 1000 and given.items() >= pairs.items() and ("first" in given) == bool(pairs)


def test_the_papers_evaluations():
    """Table 6's column, from the settings: what a training step and a pair evaluate is counted in their own tests."""
    paper = study("paper")
    reported = pd.read_csv(ROOT / "src/diffusion2gan/report/reported.csv")
    column = reported[reported["metric"] == "nfe_million"].set_index("row")["value"].astype(float)
    for row, run in ((row, paper.runs[row]) for row in paper.tables["table6"].rows):
        n = run.batch.size
        if run.stage == "consistency":
            step = Evaluations(teacher_forward=2 * n, student_forward=n, student_backward=n, target_forward=n)
            spent = step.times(run.settings.iterations)
            assert spent.metrics["nfe_forward_million"] == 2 * spent.metrics["nfe_million"]
        else:
            pairs = paper.datasets[run.dataset].pairs * evaluations_per_pair(
                "heun", paper.steps("edm-cifar10", "heun"), 1
            )
            step = Evaluations(student_forward=n, student_backward=n)
            spent = combined([step.times(run.settings.iterations), Evaluations(pairs_forward=pairs)])
            assert spent.metrics["nfe_million"] == pytest.approx(76.8 + 35 * paper.datasets[run.dataset].pairs / 1e6)
            assert spent.metrics["nfe_backward_million"] == pytest.approx(76.8)
        equal = row == "consistency-distillation-equal"
        wanted = column["regression-lpips-1000k" if equal else row]
        assert spent.metrics["nfe_million"] == pytest.approx(wanted, abs=0.051)


def test_table6_has_settings_of_its_own():
    """Consistency Distillation as published; the regression beside it does not train as Stable Diffusion does."""
    paper = study("paper")
    published = paper.runs["consistency-distillation"].settings
    assert (published.warmup, published.random_flip, published.autocast) == (0, True, False)
    assert (published.learning_rate, published.ema_decay) == (4e-4, 0.9999)
    assert (published.noise_levels, published.target_decay) == (18, 0.0)
    rows = [row for row in paper.tables["table6"].rows if row.startswith("regression")]
    assert len(rows) == 5
    for settings in (paper.runs[row].settings for row in rows):
        assert (settings.learning_rate, settings.ema_decay, settings.autocast) == (4e-4, 0.9999, False)
        assert settings.warmup * 256 == pytest.approx(1e7, rel=1e-4)
    other = paper.runs["regression-lpips"].settings
    assert (other.learning_rate, other.ema_decay, other.autocast, other.warmup) == (1e-5, 0.999, True, 500)


def test_the_pairs_at_guidance_8_are_distilled_as_those_at_3():
    paper = study("paper")
    for row in ("diffusion2gan", "regression-elatentlpips-large-batch"):
        three = paper.runs[row]
        eight = paper.runs["diffusion2gan-cfg-8" if three.init else "regression-elatentlpips-cfg-8"]
        assert (eight.settings, eight.batch, eight.stage) == (three.settings, three.batch, three.stage)
        assert (paper.datasets[eight.dataset].guidance, paper.datasets[eight.dataset].pairs) == (8, 12_000_000)
    assert paper.lineage("diffusion2gan-cfg-8") == ["diffusion2gan-cfg-8", "regression-elatentlpips-cfg-8"]
    assert paper.sampling("teacher-sd15-cfg-8")["guidance"] == 8
