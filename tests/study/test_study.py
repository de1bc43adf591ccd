"""The study: it is the paper's, and every name in it refers to something."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations, combined, evaluations_per_pair
from diffusion2gan.study import options
from diffusion2gan.study.config import load, merge
from diffusion2gan.study.entries import BatchEntry
from diffusion2gan.study.paths import Paths
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]
CD = {"stage": "consistency", "loss": "lpips", "teacher": "edm-cifar10", "images": "cifar10"}
GAN = {"stage": "gan", "discriminator": "diffusion"}
SECOND = ("kid", "fid_second", "kid_second")


CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def study(scale: str = "toy", **changes) -> Study:
    return Study(load(merge(CONFIG, changes | {"scale": scale}), ROOT))


def complaint(**changes) -> str:
    with pytest.raises(UserError) as error:
        study(**changes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("scale", ["smoke", "toy", "paper"])
def test_the_rows_of_each_table_are_the_papers(scale):
    reported = pd.read_csv(ROOT / "src/diffusion2gan/report/reported.csv", dtype=str)
    tables = study(scale).tables
    assert list(tables) == [f"table{number}" for number in range(1, 8)]
    for number, rows in reported.groupby("table")["row"].unique().items():
        ours = tables[f"table{number}"].rows
        assert [row for row in ours if row in set(rows)] == list(rows)
        assert set(ours) - set(rows) <= {
            "dmd2",
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


def test_a_benchmark_may_have_features_of_its_own():
    """CIFAR-10's FID is measured on raw images, COCO's as GigaGAN does."""
    paper = study("paper")
    paths, rows = Paths(paper), {"cifar10": "consistency-distillation", "coco2014": "teacher-sd15"}
    features = {name: options.scoring(paper, paths, row, name)["features"] for name, row in rows.items()}
    assert features == {"cifar10": "inception-legacy", "coco2014": "inception"}
    toy = study()
    scored = options.scoring(toy, Paths(toy), "consistency-distillation", "openmoji-32")
    assert scored["features"] == "efficientnet-lite0"


def test_consistency_distillation_learns_from_a_teacher_and_pictures():
    run = study().runs["consistency-distillation"]
    assert (run.dataset, run.teacher, run.images) == (None, "edm-cifar10", "cifar10")
    assert study().teacher_of(run.name).space == "pixel"
    assert {"noise_levels", "target_decay"} <= run.settings.used().keys()
    assert "target_decay" not in study().runs["regression-lpips-50k"].settings.used()


def test_a_run_overrides_base_and_the_sizes_of_its_stage():
    changed = study(runs={"gan-diffusion": {"lambda_gan": 3.0, "seed": 5}}).runs["gan-diffusion"]
    assert (changed.settings.lambda_gan, changed.settings.seed) == (3.0, 5)
    assert changed.settings.learning_rate == study().config.gan.learning_rate


def test_a_run_passes_only_options_that_it_reads():
    used = {name: run.settings.used() for name, run in study().runs.items()}
    assert "ensemble" not in used["regression-mse"] and "ensemble" in used["regression-elatentlpips"]
    assert "r1_gamma" not in used["gan-diffusion-z"] and "r1_gamma" in used["gan-diffusion-z-r1"]
    assert "mix_fraction_text" not in used["gan-diffusion"]
    assert "lambda_gan" not in used["regression-lpips"]
    large = study().config.regression.batch["large"].size
    assert used["regression-elatentlpips-large-batch"]["batch_size"] == large


def test_trunks():
    assert study().trunk_of("regression-mse") is None
    assert study().trunk_of("regression-lpips") == study().trunk_of("regression-lpips-50k") == "pixel"
    assert study().trunk_of("gan-diffusion") == "latent-sd15"
    assert study().trunk_of("sdxl-diffusion2gan") == "latent-sdxl"


def test_a_row_of_several_tables_is_measured_once_a_benchmark():
    assert study("paper").metrics_of("diffusion2gan") == {
        "coco2014": ["params_billion", "fid", "inference_seconds", *SECOND, "device_days"],
        "coco2017": ["steps", "fid", "clip_score", "inference_seconds", *SECOND],
    }
    both = {"openmoji": ["params_billion", "fid", "inference_seconds", *SECOND, "steps", "clip_score", "device_days"]}
    assert study("toy").metrics_of("diffusion2gan") == both


def test_a_run_in_no_table_is_measured_all_the_same():
    added = study("paper", runs={"mine": {"seed": 1}})
    assert added.metrics_of("mine") == {"coco2014": ["fid", "clip_score", "precision", "recall", *SECOND]}


def test_what_a_scale_lacks():
    toy, paper = study("toy"), study("paper")
    assert {name for name, table in toy.tables.items() if toy.lacks(table)} == set()
    without = study("toy", teachers={"edm-cifar10": {"path": None}})
    assert without.lacks(without.tables["table6"]) == "teacher edm-cifar10"
    assert paper.lacks(paper.tables["table5"]) is None


def test_an_unknown_row():
    rows = ["regression-mse", "regresion-lpips"]
    message = complaint(tables={"table1": {"rows": rows}})
    assert message == (
        "config.yaml: tables.table1: no run or model 'regresion-lpips', did you mean 'regression-lpips'?"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runs": {"x": GAN | {"init": "regression-mce"}}}, "runs.x.init: no run 'regression-mce', did you mean 'regr"),
        ({"runs": {"x": GAN}}, "runs.x has no `init`: name the run it starts from"),
        ({"runs": {"x": {"stage": "gan", "init": "regression-mse"}}}, "runs.x has no discriminator"),
        ({"runs": {"x": {"discriminator": "gigagan"}}}, "runs.x is a regression with a discriminator"),
        ({"runs": {"x": {"init": "regression-mse"}}}, "runs.x is a regression: it takes no `init`"),
        (
            {"runs": {"x": GAN | {"init": "y"}, "y": GAN | {"init": "x"}}},
            "runs.x starts from itself: x -> y -> x; change an `init`",
        ),
        ({"runs": {"x": CD | {"dataset": "sd-cfg-3"}}}, "runs.x learns without pairs: give it teacher and images"),
        ({"runs": {"x": CD | {"teacher": "sd15"}}}, "runs.x works in pixels: give it a pixel teacher"),
        ({"runs": {"x": {"images": "cifar10"}}}, "runs.x learns from pairs: it takes no teacher and no images"),
        ({"runs": {"x": {"dataset": "sd-cfg-33"}}}, "runs.x: no dataset 'sd-cfg-33', did you mean 'sd-cfg-3'?"),
        ({"runs": {"x": {"batch": "larg"}}}, "scales/toy.yaml: regression: no batch 'larg', did you mean 'large'?"),
        (
            {"regression": {"batch": {"base": {"size": 36, "gpus": 4, "accumulation": 2}}}},
            "regression: batch.base has size 36, which does not divide among 1 nodes of 4 GPUs with 2 micro-batches",
        ),
        ({"runs": {"x": {"iterations": "brief"}}}, "scales/toy.yaml: regression: no number of iterations 'brief'"),
        ({"datasets": {"sd-cfg-3": {"teacher": "sd16"}}}, "datasets.sd-cfg-3: no teacher 'sd16', did you mean 'sd15'?"),
        ({"datasets": {"sd-cfg-3": {"prompts": "laion"}}}, "datasets.sd-cfg-3: no list of prompts 'laion'"),
        (
            {"datasets": {"cifar10-50k": {"part_of": "cifar10-100k"}}},
            "datasets.cifar10-50k.part_of: no whole dataset 'cifar10-100k', did you mean 'cifar10-1000k'?",
        ),
        (
            {"datasets": {"cifar10-50k": {"pairs": 501}}},
            "scales/toy.yaml: datasets.cifar10-50k has more pairs than cifar10-1000k, which it is part of",
        ),
        ({"tables": {"table2": {"benchmark": "coco2015"}}}, "tables.table2: no benchmark 'coco2015'"),
        ({"figures": {"figure1": {"columns": {"teacher": "T"}}}}, "figures.figure1: no run or model 'teacher'"),
        ({"models": {"x": {"teacher": "sd15"}}}, "models.x is a teacher: it needs solver and guidance"),
        (
            {"models": {"x": {"teacher": "sd15", "solver": "ddim", "guidance": 3, "spacing": "leading"}}},
            "models.x is a teacher: it takes no spacing",
        ),
        (
            {"models": {"x": {}}},
            "models.x needs teacher, solver and guidance; or, for a published pipeline, scheduler, steps",
        ),
        (
            {"models": {"x": {"pipeline": "a/b", "steps": 1}}},
            "models.x needs teacher, solver and guidance; or, for a publi",
        ),
        ({"tables": {"table5": {"teacher": "teacher-sdx"}}}, "no model 'teacher-sdx', did you mean 'teacher-sdxl'?"),
        ({"models": {"x": {"reported_only": True, "guidance": 3}}}, "models.x is reported only"),
        (
            {"models": {"x": {"teacher": "sd15", "solver": "heun", "guidance": 3}}},
            "teachers.sd15.steps: no solver 'heun'",
        ),
    ],
)
def test_a_name_that_refers_to_nothing(changes, said):
    assert said in complaint(**changes)


def test_the_rows_that_a_scale_measures():
    """At small scales teachers and students; at the paper's, all whose weights are public."""
    public = {"pixart-alpha", "instaflow", "dmd2", "sdxl-turbo", "sdxl-lightning"}
    assert not public & set(study("toy").measured) and public < set(study("paper").measured)
    assert not {"gigagan", "ufogen", "add-m", "dmd", "progressive-distillation"} & set(study("paper").measured)
    assert "dmd2" not in study("toy").rows("table3") and "dmd2" in study("paper").rows("table3")
    assert "instaflow" in study("toy").rows("table3")  # a reported row stays


def test_a_baseline_is_sampled_as_its_entry_says():
    paper = study("paper")
    lightning = paper.sampling("sdxl-lightning")
    assert lightning.pop("unet").endswith("sdxl_lightning_1step_unet_x0.safetensors")
    assert lightning == {
        "scheduler": "euler", "spacing": "trailing", "prediction": "sample", "steps": 1, "guidance": 0,
        "resolution": 1024,
    }  # fmt: skip
    assert paper.sampling("dmd2")["timesteps"] == [999]
    assert paper.sampling("diffusion2gan") == {"scheduler": "student", "steps": 1, "guidance": 0}
    assert paper.sampling("teacher-sd15")["steps"] == 50 and paper.sampling("dpm-solver")["steps"] == 25
    assert study("toy").sampling("ddim-2")["steps"] == 2


def test_dreamsim_compares_with_the_tables_teacher():
    assert study("paper").compared_with("sdxl-turbo", "coco2017") == "teacher-sdxl"
    assert study("toy").compared_with("sdxl-diffusion2gan", "openmoji") == "teacher-sdxl"
    assert study("paper").compared_with("diffusion2gan", "coco2017") is None


def test_every_row_is_repeated_from_the_next_seeds():
    three = study("toy", seeds=3, runs={"gan-gigagan": {"seed": 5}})
    assert set(three.runs) - set(study("toy").runs) >= {"gan-gigagan-seed1", "gan-gigagan-seed2"}
    repeat = three.runs["gan-gigagan-seed2"]
    assert (repeat.settings.seed, repeat.init) == (7, "regression-elatentlpips-large-batch-seed2")
    assert three.origins["gan-gigagan-seed2"] == ("gan-gigagan", 2) and three.origins["dmd"] == ("dmd", 0)
    assert three.repeated(["dmd", "teacher-sd15"]) == ["teacher-sd15", "teacher-sd15-seed1", "teacher-sd15-seed2"]
    assert three.metrics_of("gan-gigagan-seed2") == three.metrics_of("gan-gigagan")
    assert three.compared_with("sdxl-diffusion2gan-seed1", "openmoji") == "teacher-sdxl-seed1"
    assert three.sampling("ddim-2-seed1") == three.sampling("ddim-2")


def test_the_pairs_at_guidance_8_are_distilled_as_those_at_3():
    paper = study("paper")
    for row in ("diffusion2gan", "regression-elatentlpips-large-batch"):
        three = paper.runs[row]
        eight = paper.runs["diffusion2gan-cfg-8" if three.init else "regression-elatentlpips-cfg-8"]
        assert (eight.settings, eight.batch, eight.stage) == (three.settings, three.batch, three.stage)
        assert (paper.datasets[eight.dataset].guidance, paper.datasets[eight.dataset].pairs) == (8, 12_000_000)
    assert paper.lineage("diffusion2gan-cfg-8") == ["diffusion2gan-cfg-8", "regression-elatentlpips-cfg-8"]
    assert paper.sampling("teacher-sd15-cfg-8")["guidance"] == 8


def test_a_lineage_goes_back_to_the_regression():
    assert study().lineage("diffusion2gan") == ["diffusion2gan", "regression-elatentlpips-large-batch"]


def test_the_human_study_leaves_out_what_the_scale_does_not_draw():
    reported = pd.read_csv(ROOT / "src/diffusion2gan/human_study/reported_preferences.csv")
    ours = {
        ("diffusion2gan", "regression-elatentlpips-large-batch"),
        ("diffusion2gan-cfg-8", "diffusion2gan"),
        ("diffusion2gan-cfg-8", "teacher-sd15-cfg-8"),
    }
    of_paper = set(zip(reported["row"], reported["against"], strict=True))
    assert set(study("paper").human_study.pairs) == of_paper | ours
    drawn = {("diffusion2gan", "teacher-sd15"), *ours, ("sdxl-diffusion2gan", "teacher-sdxl")}
    assert set(study("toy").human_study.pairs) == drawn
    misspelt = complaint(human_study={"comparisons": {"diffusion2gan": ["teacher-sd51"]}})
    assert misspelt == (
        "config.yaml: human_study.comparisons: no run or model 'teacher-sd51', did you mean 'teacher-sd15'?"
    )


def test_a_stage_states_no_setting_of_another():
    for stage, name, value in (("regression", "lambda_gan", 1.0), ("gan", "noise_levels", 5)):
        with pytest.raises(UserError, match=f"scales/smoke.yaml: {stage} has no setting '{name}': leave it out"):
            Study(load(merge(CONFIG, {"scale": "smoke", stage: {name: value}}), ROOT)).runs  # noqa: B018
