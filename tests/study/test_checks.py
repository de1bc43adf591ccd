"""Every name in the study refers to something that fits."""

import pytest
from study.conftest import complaint

CD = {"stage": "consistency", "loss": "lpips", "teacher": "edm-cifar10", "images": "cifar10"}


LCM = {"stage": "lcm", "loss": "mse"}
PROGRESSIVE = {"stage": "progressive", "loss": "mse"}
LIGHTNING = {"stage": "lightning", "loss": "none", "dataset": "sdxl-cfg-7"}
INSTAFLOW = {"stage": "instaflow", "loss": "lpips"}
GAN = {"stage": "gan", "discriminator": "diffusion"}
SCRATCH = {"stage": "gan", "discriminator": "gigagan", "loss": "none", "from_scratch": True}


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
        ({"runs": {"x": GAN}}, "runs.x has no `init`: name the run it starts from, or set `from_scratch: true`"),
        (
            {"runs": {"x": SCRATCH | {"init": "regression-mse"}}},
            "runs.x is trained from scratch: it takes no `init`",
        ),
        *(
            (
                {"runs": {"x": SCRATCH | change}},
                "runs.x: a GAN from scratch learns neither from a teacher nor from the noise of pairs: set",
            )
            for change in ({"discriminator": "diffusion"}, {"loss": "mse"})
        ),
        (
            {"models": {"lcm": {"teacher": "sd15", "solver": "ddim", "guidance": 3}}},
            "models.lcm has the name of a run: rename it",
        ),
        (
            {"models": {"x": {"stand_in_for": "dmdd", "teacher": "sd15", "solver": "ddim", "guidance": 3}}},
            "models.x.stand_in_for: no run or model 'dmdd', did you mean 'dmd'?",
        ),
        (
            {"runs": {"x": GAN | {"init": "sdxl-regression-elatentlpips"}}},
            "runs.x starts from sdxl-regression-elatentlpips, a student of another teacher, sdxl: change an `init`",
        ),
        (
            {"runs": {"x": GAN | {"init": "progressive-8"}}},
            "runs.x needs a student of one step, and progressive-8 has several: change `init`",
        ),
        *(
            (
                {"runs": {"x": {"stage": stage, "loss": loss, "dataset": "cifar10-50k"}}},
                f"runs.x is a {stage} run, which needs latents: choose another dataset",
            )
            for stage, loss in [
                ("dmd2", "none"),
                *((each, "mse") for each in ("dmd", "ufogen", "lcm", "add", "reflow")),
            ]
        ),
        (
            {"runs": {"x": LCM}, "lcm": {"batch": {"base": {"shard": True}}}},
            "keeps whole networks: choose a batch without `shard`",
        ),
        (
            {"runs": {"x": {"stage": "add", "loss": "lpips"}}},
            "runs.x: ADD weighs squared errors: set loss: mse instead of lpips",
        ),
        ({"runs": {"x": LIGHTNING | {"steps": 4}}}, "runs.x has no `init`: name the run it starts from"),
        (
            {"runs": {"x": LIGHTNING | {"init": "sdxl-progressive-8", "steps": 2}}},
            "runs.x replaces 4 steps (steps × substeps), and sdxl-progressive-8 is no progressive run with 4: change",
        ),
        (
            {"runs": {"x": LIGHTNING | {"init": "progressive-8", "steps": 4}}},
            "runs.x starts from progressive-8, a student of another teacher, sd15: change an `init`",
        ),
        (
            {"runs": {"x": LIGHTNING | {"init": "sdxl-progressive-8", "steps": 4, "loss": "lpips"}}},
            "runs.x: SDXL-Lightning has the loss of D alone: set loss: none instead of lpips",
        ),
        ({"runs": {"x": INSTAFLOW}}, "runs.x has no `init`: name the run it starts from"),
        (
            {"runs": {"x": INSTAFLOW | {"init": "regression-mse"}}},
            "runs.x distils a rectified flow, and regression-mse is no reflow run: change `init`",
        ),
        (
            {"runs": {"x": INSTAFLOW | {"init": "reflow", "dataset": "sdxl-cfg-7"}}},
            "runs.x starts from reflow, a student of another teacher, sd15: change an `init`",
        ),
        (
            {"runs": {"x": {"stage": "reflow", "loss": "lpips"}}},
            "runs.x: ReFlow averages velocities by squared errors: set loss: mse instead of lpips",
        ),
        (
            {"runs": {"x": PROGRESSIVE | {"init": "progressive-2", "steps": 4}}},
            "runs.x replaces 8 steps (steps × substeps), and progressive-2 is no progressive run with 8: change `init`",
        ),
        (
            {"runs": {"x": PROGRESSIVE | {"init": "regression-mse", "steps": 4}}},
            "and regression-mse is no progressive run with 8: change `init` or `steps`",
        ),
        (
            {"runs": {"x": PROGRESSIVE | {"init": "progressive-8", "steps": 4, "guidance": 3}}},
            "runs.x starts from progressive-8, which has learnt the guidance: leave out `guidance`",
        ),
        (
            {"runs": {"x": PROGRESSIVE | {"steps": 4, "loss": "l1"}}},
            "runs.x: progressive distillation weighs squared errors: set loss: mse instead of l1",
        ),
        (
            {"runs": {"x": PROGRESSIVE | {"init": "progressive-8", "steps": 8, "substeps": 1}}},
            "runs.x: one substep without guidance changes nothing: set substeps: 2, or guidance above 1",
        ),
        (
            {"runs": {"x": {"stage": "dmd2", "loss": "mse"}}},
            "runs.x: DMD2 has no regression loss: set loss: none instead of mse",
        ),
        (
            {"runs": {"x": {"loss": "none"}}},
            "runs.x: this stage needs a regression loss: choose one instead of none",
        ),
        (
            {"runs": {"x": {"stage": "dmd", "lambda_regression": 0}}},
            "runs.x.lambda_regression is 0: input should be greater than 0",
        ),
        ({"runs": {"x": {"stage": "gan", "init": "regression-mse"}}}, "runs.x has no discriminator"),
        ({"runs": {"x": {"discriminator": "gigagan"}}}, "runs.x is a regression run with a discriminator: set"),
        ({"runs": {"x": CD | {"discriminator": "gigagan"}}}, "runs.x is a consistency run with a discriminator: set"),
        ({"runs": {"x": {"init": "regression-mse"}}}, "runs.x is a regression run: it takes no `init`"),
        ({"runs": {"x": CD | {"init": "regression-mse"}}}, "runs.x is a consistency run: it takes no `init`"),
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
        (
            {"models": {"x": {"teacher": "sd15", "solver": "heun", "guidance": 3}}},
            "teachers.sd15.steps: no solver 'heun'",
        ),
    ],
)
def test_a_name_that_refers_to_nothing(changes, said):
    assert said in complaint(**changes)


@pytest.mark.parametrize("name", ["a b", "a/b", "a'b", "a$b", "a{b}", "../a", "-x", "a@5"])
def test_names_become_files_and_words_of_commands(name):
    assert "runs" in complaint(runs={name: {"loss": "mse"}})
