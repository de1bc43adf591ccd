"""The study: what a row is measured by, compared with and sampled as, and what a scale lacks."""

import pandas as pd
import pytest
from study.conftest import ROOT, complaint, study

from diffusion2gan.study import options
from diffusion2gan.study.paths import Paths

SECOND = ("kid", "fid_second", "kid_second")
TABLE8 = [
    "steps", "clip_score", "precision", "recall", "held_out_error", "nfe_total_million",
]  # fmt: skip


def test_the_toy_baseline_spends_what_its_row_says():
    """Consistency Distillation at as many evaluations as a million pairs' stand-in, and at more."""
    toy = study()
    pairs = toy.runs["regression-lpips-1000k"]
    spent = 35 * toy.datasets[pairs.dataset].pairs + pairs.settings.iterations * pairs.batch.size
    equal, more = (
        2 * run.settings.iterations * run.batch.size
        for run in (toy.runs["consistency-distillation-equal"], toy.runs["consistency-distillation"])
    )
    assert equal == pytest.approx(spent, rel=0.01) and more > equal


def test_a_benchmark_may_have_features_of_its_own():
    """CIFAR-10's FID is measured on raw images, COCO's as GigaGAN does."""
    paper = study("paper")
    paths, rows = Paths(paper), {"cifar10": "consistency-distillation", "coco2014": "teacher-sd15"}
    features = {name: options.scoring(paper, paths, row, name)["features"] for name, row in rows.items()}
    assert features == {"cifar10": "inception-legacy", "coco2014": "inception"}
    toy = study()
    scored = options.scoring(toy, Paths(toy), "consistency-distillation", "openmoji-32")
    assert scored["features"] == "efficientnet-lite0"


def test_trunks():
    assert study().trunk_of("regression-mse") is None
    assert study().trunk_of("regression-lpips") == study().trunk_of("regression-lpips-50k") == "pixel"
    assert study().trunk_of("gan-diffusion") == "latent-sd15"
    assert study().trunk_of("sdxl-diffusion2gan") == "latent-sdxl"


def test_a_row_of_several_tables_is_measured_once_a_benchmark():
    assert study("paper").metrics_of("diffusion2gan") == {
        "coco2014": ["params_billion", "fid", "inference_seconds", *SECOND, "device_days", *TABLE8],
        "coco2017": ["steps", "fid", "clip_score", "inference_seconds", *SECOND],
    }
    of_others = ["params_billion", "fid", "inference_seconds", *SECOND, "steps", "clip_score", "device_days"]
    of_table8 = [metric for metric in TABLE8 if metric not in of_others]
    assert study("toy").metrics_of("diffusion2gan") == {"openmoji": of_others + of_table8}


def test_a_run_in_no_table_is_measured_all_the_same():
    added = study("paper", runs={"mine": {"seed": 1}})
    assert added.metrics_of("mine") == {"coco2014": ["fid", "clip_score", "precision", "recall", *SECOND]}


def test_rows_of_other_methods_that_are_trained_here():
    toy = study("toy")
    assert set(toy.reimplemented(toy.rows("table3"))) == {"gigagan", "instaflow", "ufogen", "dmd", "dmd2"}
    assert toy.reimplemented(toy.rows("table2")) == []


def test_what_a_scale_lacks():
    toy, paper = study("toy"), study("paper")
    assert {name for name, table in toy.tables.items() if toy.lacks(table)} == set()
    without = study("toy", teachers={"edm-cifar10": {"path": None}})
    assert without.lacks(without.tables["table6"]) == "teacher edm-cifar10"
    assert paper.lacks(paper.tables["table5"]) is None


def test_the_rows_that_a_scale_measures():
    """At small scales teachers and students; at the paper's, all whose weights are public."""
    published = {f"{name}-published" for name in ("instaflow", "dmd2", "sdxl-turbo", "sdxl-lightning")}
    public = {"pixart-alpha", *published}
    assert not public & set(study("toy").measured) and public < set(study("paper").measured)
    assert not published & set(study("toy").rows("table3")) and "dmd2-published" in study("paper").rows("table3")
    assert "pixart-alpha" in study("toy").rows("table3")  # a reported row stays


def test_a_baseline_is_sampled_as_its_entry_says():
    paper = study("paper")
    lightning = paper.sampling("sdxl-lightning-published")
    assert lightning.pop("unet").endswith("sdxl_lightning_1step_unet_x0.safetensors")
    assert lightning == {
        "scheduler": "euler", "spacing": "trailing", "prediction": "sample", "steps": 1, "guidance": 0,
        "resolution": 1024,
    }  # fmt: skip
    assert paper.sampling("dmd2-published")["timesteps"] == [999]
    assert paper.sampling("diffusion2gan") == {"scheduler": "student", "steps": 1, "guidance": 0}
    assert paper.sampling("sdxl-lightning-4") == {"scheduler": "student", "steps": 4, "guidance": 0}
    assert paper.sampling("progressive-distillation") == {"scheduler": "student", "steps": 4, "guidance": 0}
    assert paper.sampling("teacher-sd15")["steps"] == 50 and paper.sampling("dpm-solver")["steps"] == 25
    assert study("toy").sampling("ddim-2")["steps"] == 2


def test_dreamsim_compares_with_the_tables_teacher():
    assert study("paper").compared_with("sdxl-turbo", "coco2017") == "teacher-sdxl"
    assert study("toy").compared_with("sdxl-diffusion2gan", "openmoji") == "teacher-sdxl"
    assert study("paper").compared_with("diffusion2gan", "coco2017") is None


def test_the_human_study_leaves_out_what_the_scale_does_not_draw():
    reported = pd.read_csv(ROOT / "src/diffusion2gan/human_study/reported_preferences.csv")
    ours = {
        ("diffusion2gan", "regression-elatentlpips-large-batch"),
        ("diffusion2gan-cfg-8", "diffusion2gan"),
        ("diffusion2gan-cfg-8", "teacher-sd15-cfg-8"),
    }
    of_paper = set(zip(reported["row"], reported["against"], strict=True))
    assert set(study("paper").human_study.pairs) == of_paper | ours
    drawn = ours | {("diffusion2gan", row) for row in ("teacher-sd15", "instaflow")}
    drawn |= {("sdxl-diffusion2gan", row) for row in ("teacher-sdxl", "sdxl-turbo", "sdxl-lightning")}
    assert set(study("toy").human_study.pairs) == drawn
    misspelt = complaint(human_study={"comparisons": {"diffusion2gan": ["teacher-sd51"]}})
    assert misspelt == (
        "config.yaml: human_study.comparisons: no run or model 'teacher-sd51', did you mean 'teacher-sd15'?"
    )
