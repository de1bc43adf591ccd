"""A run: what its entry, `base` and its stage say of it."""

import pytest
from study.conftest import CONFIG, ROOT, study

from diffusion2gan.errors import UserError
from diffusion2gan.study.config import load, merge
from diffusion2gan.study.study import Study


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


def test_every_row_is_repeated_from_the_next_seeds():
    three = study("toy", seeds=3, runs={"gan-gigagan": {"seed": 5}})
    assert set(three.runs) - set(study("toy").runs) >= {"gan-gigagan-seed1", "gan-gigagan-seed2"}
    repeat = three.runs["gan-gigagan-seed2"]
    assert (repeat.settings.seed, repeat.init) == (7, "regression-elatentlpips-large-batch-seed2")
    origins, absent = three.origins, "pixart-alpha"
    assert origins["gan-gigagan-seed2"] == ("gan-gigagan", 2) and origins[absent] == (absent, 0)
    assert three.repeated([absent, "teacher-sd15"]) == ["teacher-sd15", "teacher-sd15-seed1", "teacher-sd15-seed2"]
    assert three.metrics_of("gan-gigagan-seed2") == three.metrics_of("gan-gigagan")
    assert three.compared_with("sdxl-diffusion2gan-seed1", "openmoji") == "teacher-sdxl-seed1"
    assert three.sampling("ddim-2-seed1") == three.sampling("ddim-2")


def test_a_lineage_goes_back_to_the_regression():
    assert study().lineage("diffusion2gan") == ["diffusion2gan", "regression-elatentlpips-large-batch"]


def test_a_stage_states_no_setting_of_another():
    for stage, name, value in (("regression", "lambda_gan", 1.0), ("gan", "noise_levels", 5)):
        with pytest.raises(UserError, match=f"scales/smoke.yaml: {stage} has no setting '{name}': leave it out"):
            Study(load(merge(CONFIG, {"scale": "smoke", stage: {name: value}}), ROOT)).runs  # noqa: B018
