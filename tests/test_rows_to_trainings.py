"""Each row of Tables 1 to 8 builds the right training, through the command of its own rule.

The commands are those that the workflow plans: the smoke scale with the paper's batches and iterations. A setting
whose value in the paper's scale is also its script's default has another value here, so that it shows when it is lost.
What is expected of each row is written out by hand.
"""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from built import built, loss_name, metric, pairs
from diffusers import UNet2DConditionModel
from PIL import Image
from workflow.conftest import pretend

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.mix_and_match import Fractions
from diffusion2gan.discriminators.unet import DiffusionDiscriminator, EncoderDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.methods.add import ADDTraining
from diffusion2gan.methods.dmd import DMDTraining
from diffusion2gan.methods.dmd2 import DMD2Training, ScoredDenoiser
from diffusion2gan.methods.gigagan import GigaGANTraining
from diffusion2gan.methods.lcm import LCMTraining
from diffusion2gan.methods.lightning import LightningTraining
from diffusion2gan.methods.progressive import ProgressiveTraining
from diffusion2gan.methods.reflow import InstaFlowTraining, ReflowTraining
from diffusion2gan.methods.ufogen import UFOGenTraining
from diffusion2gan.pixel.consistency import ConsistencyTraining
from diffusion2gan.pixel.model import PixelGenerator
from diffusion2gan.study import cli
from diffusion2gan.study.config import load, merge
from diffusion2gan.study.entries import STAGES
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[1]
SHAPES = {"sd15": (4, 16, 16), "sdxl": (4, 16, 16), "edm-cifar10": (3, 32, 32)}
TEACHER_OF = {"sd-cfg-3": "sd15", "sd-cfg-8": "sd15", "sdxl-cfg-7": "sdxl", "cifar10-1000k": "edm-cifar10"}
TEACHERS = {"sd15": "assets/toy/teacher", "sdxl": "assets/toy/teacher-xl", "edm-cifar10": "assets/toy/edm"}
LATENT = "latent-{}"
METRICS = {
    "lpips": "pixel", "latent_lpips": LATENT, "e_latent_lpips bgc": LATENT, "e_latent_lpips bgc bilinear": LATENT,
}  # fmt: skip

# neither the paper's values nor a default of a script
CHANGED = {
    "scale": "smoke",
    "base": {"seed": 4, "ensemble": "bgc", "r1_every": 5},
    "regression": {"learning_rate": 3.0e-4, "warmup": 6, "decay": "linear", "ema_decay": 0.7},
    "gan": {
        "learning_rate": 4.0e-4, "d_learning_rate": 5.0e-4, "warmup": 7, "decay": "cosine", "ema_decay": 0.6,
        "lambda_gan": 0.3, "r1_gamma": 2.5,
        "mix_fraction_latent": 0.11, "mix_fraction_text": 0.22, "mix_fraction_noise": 0.33,
    },
    "dmd": {
        "learning_rate": 7.0e-4, "fake_learning_rate": 8.0e-4, "warmup": 9, "decay": "steps", "ema_decay": 0.4,
        "lambda_regression": 0.6, "guidance": 2.0,
    },
    "dmd2": {
        "learning_rate": 7.1e-4, "fake_learning_rate": 8.1e-4, "warmup": 11, "decay": "steps", "ema_decay": 0.45,
        "fake_updates": 4, "lambda_adversarial": 0.02, "lambda_head": 0.03, "guidance": 2.5,
    },
    "progressive": {"learning_rate": 2.0e-4, "warmup": 3, "decay": "cosine", "ema_decay": 0.3},
    "ufogen": {
        "learning_rate": 1.1e-4, "d_learning_rate": 1.2e-4, "warmup": 4, "decay": "linear", "ema_decay": 0.2,
        "lambda_reconstruction": 0.9, "noise_levels": 5,
    },
    "add": {
        "learning_rate": 1.4e-4, "d_learning_rate": 1.5e-4, "warmup": 2, "decay": "linear", "ema_decay": 0.8,
        "lambda_gan": 0.85, "lambda_distillation": 0.45, "r1_gamma_features": 0.2, "noise_levels": 3, "guidance": 5.0,
    },
    "lcm": {
        "learning_rate": 1.3e-4, "warmup": 5, "decay": "steps", "ema_decay": 0.1, "noise_levels": 6,
        "target_decay": 0.7, "guidance": 4.0,
    },
    "lightning": {
        "learning_rate": 1.8e-4, "d_learning_rate": 1.9e-4, "warmup": 11, "decay": "linear", "ema_decay": 0.45,
        "conditional_share": 0.35,
    },
    "reflow": {"learning_rate": 1.6e-4, "warmup": 1, "decay": "cosine", "ema_decay": 0.65},
    "instaflow": {
        "learning_rate": 1.7e-4, "warmup": 10, "decay": "steps", "ema_decay": 0.55, "flow_steps": 11,
    },
    "consistency": {"learning_rate": 6.0e-4, "warmup": 8, "ema_decay": 0.5, "noise_levels": 7, "target_decay": 0.4},
}  # fmt: skip

E = "e_latent_lpips bgc"
BILINEAR = f"{E} bilinear"

# row: the loss, the batch, its micro-batches, the pairs, how many of them (0: all), the iterations; Tables 1, 5 and 6,
# and Figure 6
REGRESSIONS = {
    "regression-lpips": ("lpips", 256, 4, "sd-cfg-3", 0, 20_000),
    "regression-l1": ("l1", 256, 1, "sd-cfg-3", 0, 20_000),
    "regression-mse": ("mse", 256, 1, "sd-cfg-3", 0, 20_000),
    "regression-pseudo-huber": ("pseudo_huber", 256, 1, "sd-cfg-3", 0, 20_000),
    "regression-latentlpips": ("latent_lpips", 256, 1, "sd-cfg-3", 0, 20_000),
    "regression-elatentlpips": (E, 256, 1, "sd-cfg-3", 0, 20_000),
    "regression-elatentlpips-bilinear": (BILINEAR, 256, 1, "sd-cfg-3", 0, 20_000),
    "regression-elatentlpips-large-batch": (E, 2048, 1, "sd-cfg-3", 0, 20_000),
    "regression-elatentlpips-cfg-8": (E, 2048, 1, "sd-cfg-8", 0, 20_000),
    "sdxl-regression-elatentlpips": (E, 256, 4, "sdxl-cfg-7", 0, 20_000),
    "regression-lpips-50k": ("lpips", 256, 1, "cifar10-1000k", 16, 300_000),
    "regression-lpips-100k": ("lpips", 256, 1, "cifar10-1000k", 24, 300_000),
    "regression-lpips-200k": ("lpips", 256, 1, "cifar10-1000k", 32, 300_000),
    "regression-lpips-500k": ("lpips", 256, 1, "cifar10-1000k", 48, 300_000),
    "regression-lpips-1000k": ("lpips", 256, 1, "cifar10-1000k", 64, 300_000),
}

# row: D, whether it sees z, has R1, has many scales, is shown mismatches; the batch, its micro-batches, the pairs, the
# run whose student it starts from; Tables 2 to 5, and Figure 6
LARGE, XL = "regression-elatentlpips-large-batch", "sdxl-regression-elatentlpips"
CFG_8 = "regression-elatentlpips-cfg-8"
GANS = {
    "gan-gigagan": (GigaGANDiscriminator, False, False, False, False, 256, 2, "sd-cfg-3", LARGE),
    "gan-diffusion": (DiffusionDiscriminator, False, False, False, False, 256, 2, "sd-cfg-3", LARGE),
    "gan-diffusion-z": (DiffusionDiscriminator, True, False, False, False, 256, 2, "sd-cfg-3", LARGE),
    "gan-diffusion-z-r1": (DiffusionDiscriminator, True, True, False, False, 256, 2, "sd-cfg-3", LARGE),
    "gan-diffusion-z-r1-multiscale": (DiffusionDiscriminator, True, True, True, False, 256, 2, "sd-cfg-3", LARGE),
    "gan-diffusion-z-r1-multiscale-mixmatch": (
        DiffusionDiscriminator, True, True, True, True, 256, 2, "sd-cfg-3", LARGE,
    ),
    "diffusion2gan": (DiffusionDiscriminator, True, True, True, True, 1024, 2, "sd-cfg-3", LARGE),
    "diffusion2gan-cfg-8": (DiffusionDiscriminator, True, True, True, True, 1024, 2, "sd-cfg-8", CFG_8),
    "sdxl-diffusion2gan": (DiffusionDiscriminator, True, True, True, True, 1024, 4, "sdxl-cfg-7", XL),
}  # fmt: skip

CONSISTENCY = {"consistency-distillation": 800_000, "consistency-distillation-equal": 109_180}  # iterations

# rows whose micro-batches keep few activations, and whose weights may be cut among processes
LIGHT = {"sdxl-progressive-guided", "sdxl-progressive-8", "sdxl-lightning-4", "sdxl-lightning-2", "sdxl-lightning"}
SHARDED = {XL, "sdxl-diffusion2gan", "sdxl-turbo", *LIGHT}
CHECKPOINTED = {"regression-lpips", "dmd", "dmd-without-regression", "dmd2", "ufogen", "instaflow", *SHARDED}

DMDS = {"dmd": "lpips", "dmd-without-regression": "none"}  # the regression loss

# row: the steps of the student, the steps that each replaces, guidance, the run whose student it starts from, the pairs
PROGRESSIVE = {
    "progressive-guided": (16, 1, 3.0, None, "sd-cfg-3"),
    "progressive-8": (8, 2, 1.0, "progressive-guided", "sd-cfg-3"),
    "progressive-distillation": (4, 2, 1.0, "progressive-8", "sd-cfg-3"),
    "progressive-2": (2, 2, 1.0, "progressive-distillation", "sd-cfg-3"),
    "progressive-1": (1, 2, 1.0, "progressive-2", "sd-cfg-3"),
    "sdxl-progressive-guided": (16, 1, 7.0, None, "sdxl-cfg-7"),
    "sdxl-progressive-8": (8, 2, 1.0, "sdxl-progressive-guided", "sdxl-cfg-7"),
}


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The script and the words of the command that the workflow plans for each run."""
    workflow = pretend(tmp_path_factory.mktemp("planned"))
    paper = yaml.safe_load((ROOT / "scales/paper.yaml").read_text())
    sizes = {name: paper[name] for name in (*STAGES, "runs")}
    (workflow.folder / "sizes.yaml").write_text(yaml.safe_dump(merge(sizes, CHANGED)))
    tables = [*(f"table{number}" for number in range(1, 9)), "table8-ablations"]
    targets = [*(f"results/{table}.csv" for table in tables), "results/figures/figure6.png"]
    ran = workflow.run("-n", "-p", "--configfile", "sizes.yaml", "--", *targets)
    assert ran.returncode == 0, ran.stdout
    planned = {}
    launched = r"python src/scripts/launch\.py --nodes \d+ --gpus \d+ "
    for script, options in re.findall(rf"{launched}src/scripts/distill/(train_\w+)\.py (.*) > \S+ 2>&1", ran.stdout):
        words = shlex.split(options)
        planned[Path(words[words.index("--out") + 1]).parent.name] = (script, words)
    return planned


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_teacher_folder, xl_folder):
    """Random stand-ins for the files of the commands: the teacher, its pairs, a student, and metrics."""
    folder = tmp_path_factory.mktemp("rows")
    teachers = {"sd15": small_teacher_folder, "sdxl": xl_folder, "edm-cifar10": ROOT / "assets/toy/edm"}
    students = {name: _other(teachers[name], folder / name) for name in ("sd15", "sdxl")}
    for dataset, teacher in TEACHER_OF.items():
        pairs(folder / dataset, teachers[teacher], torch.randn(68, *SHAPES[teacher]))
    metrics = {space: metric(folder / f"{space}.safetensors", space) for space in ("pixel", "latent")}
    (folder / "images").mkdir()
    for number in range(8):
        Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(folder / "images" / f"{number:05d}.png")
    return {"folder": folder, "teachers": teachers, "students": students, "metrics": metrics}


def _other(teacher, folder):
    """A pipeline of a teacher's parts whose U-Net has other weights."""
    student = Generator.from_teacher(teacher)
    torch.manual_seed(1)
    student.unet = UNet2DConditionModel.from_config(student.unet.config)
    student.save(folder, teacher)
    return folder


def understood(script, words):
    """The arguments that a script reads from the words of a command line."""
    read = []

    def main(args: script.Arguments):
        read.append(args)

    main.__module__ = script.__name__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{script.__name__}.py", *words])
        cli.run(main)
    return read[0]


def build(row, commands, files, name, teacher, loss, **expected):
    """The training of a row, built by its script with our files for its own; those must be named as `expected`."""
    called, words = commands[row]
    assert called == name
    script = importlib.import_module(f"scripts.distill.{name}")
    args = understood(script, words)
    run = Path("work/smoke/runs") / row
    expected |= {
        "teacher": TEACHERS[teacher], "checkpoints": run / "checkpoints", "out": run / "student",
        "history": run / "history.csv", "metrics": run / "metrics/training.json", "samples": run / "samples/training",
    }  # fmt: skip
    space = METRICS[loss].format(teacher) if loss in METRICS else None
    expected["lpips"] = (
        Path(f"work/smoke/latentlpips/{space}/lpips.safetensors") if space else expected.pop("features", None)
    )
    assert {option: getattr(args, option) for option in expected} == expected
    ours = {"teacher": str(files["teachers"][teacher])}
    if expected["lpips"]:
        ours["lpips"] = files["metrics"][expected["lpips"].parent.name.partition("-")[0]]
    if "pairs" in expected:
        ours["pairs"] = files["folder"] / expected["pairs"].name
    if "images" in expected:
        ours["images"] = files["folder"] / "images"
    if "init" in expected:
        ours["init"] = files["students"][teacher]
    training = built(script.main, args.model_copy(update=ours))
    side = 64 if loss == "lpips" else 0
    assert loss_name(training, SHAPES[teacher], side) == loss
    assert training.seeds == {4}
    assert training.gradient_checkpointing == {row in CHECKPOINTED} and training.shard == (row in SHARDED)
    return training


def same_weights(student, unet):
    return all(torch.equal(ours, theirs) for ours, theirs in zip(student.parameters(), unet.parameters(), strict=True))


def test_every_run_of_the_study_is_here(commands):
    others = {*DMDS, "dmd2", "gigagan", "ufogen", *ADD, *LIGHTNING, "lcm", "reflow", "instaflow"}
    assert set(commands) == {*REGRESSIONS, *GANS, *PROGRESSIVE, *others, *CONSISTENCY}
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert set(commands) == set(config["runs"])
    base = Study(load(config, ROOT)).runs["gan-diffusion-z-r1"].settings  # what CHANGED hides
    assert (base.ensemble, base.r1_every, base.seed) == ("bgco", 16, 0)


@pytest.mark.parametrize("row", REGRESSIONS)
def test_a_regression_is_built_as_its_row_says(row, commands, files):
    loss, batch, micro_batches, dataset, count, iterations = REGRESSIONS[row]
    teacher = TEACHER_OF[dataset]
    training = build(
        row, commands, files, "train_regression", teacher, loss, pairs=Path("work/smoke/pairs") / dataset,
        lpips_side=64 if teacher == "edm-cifar10" else 0,
    )  # fmt: skip
    assert type(training.student) is (PixelGenerator if teacher == "edm-cifar10" else Generator)
    assert same_weights(training.student, type(training.student).from_teacher(files["teachers"][teacher]))
    assert set(training.training.modules) == {"student"} and training.training.averaged == "student"
    assert (training.batch_size, training.micro_batches) == (batch, micro_batches)
    assert training.pairs.folder.name == dataset and len(training.pairs) == (count or 64)
    assert training.pairs.held_out == range(64, 68)
    in_pixels = teacher == "edm-cifar10"  # the paper's scale gives these rows settings of their own
    assert (training.schedule.iterations, training.schedule.warmup) == (iterations, 39_063 if in_pixels else 6)
    assert training.schedule.decay == "linear"
    assert training.learning_rates == {"student": 4e-4 if in_pixels else 3e-4}
    assert (training.ema_decay, training.autocast) == ((0.9999, False) if in_pixels else (0.7, True))


@pytest.mark.parametrize("row", GANS)
def test_a_gan_is_built_as_its_row_says(row, commands, files):
    kind, z_conditioning, r1, multi_scale, mix_and_match, batch, micro_batches, dataset, init = GANS[row]
    teacher = TEACHER_OF[dataset]
    training = build(
        row, commands, files, "train_gan", teacher, E, pairs=Path("work/smoke/pairs") / dataset,
        init=Path("work/smoke/runs") / init / "student",
    )  # fmt: skip
    assert type(training.discriminator) is kind
    assert training.sees_z == z_conditioning
    if kind is DiffusionDiscriminator:
        assert training.heads == (3 * len(training.discriminator.unet.up_blocks) if multi_scale else 1)
    # the paper's scale gives rows with another number of logits a weight of their own
    gamma = {"sdxl-diffusion2gan": 2.5e-5, "gan-diffusion-z-r1": 4e-4}.get(row, 2.5)
    assert training.r1 == ((gamma, 5) if r1 else None)
    assert training.fractions == (Fractions(latent=0.11, text=0.22, noise=0.33) if mix_and_match else None)
    assert training.matching_aware == (kind is GigaGANDiscriminator)
    assert training.lambda_gan == 0.3
    assert same_weights(training.student, Generator.from_teacher(files["students"][teacher]))
    assert not same_weights(training.student, Generator.from_teacher(files["teachers"][teacher]))
    assert set(training.training.modules) == {"student", "discriminator"} and training.training.averaged == "student"
    assert (training.batch_size, training.micro_batches) == (batch, micro_batches)
    assert training.pairs.folder.name == dataset and len(training.pairs) == 64
    assert training.pairs.held_out == range(64, 68)
    assert (training.schedule.iterations, training.schedule.warmup) == (20_000, 7)
    assert training.schedule.decay == "cosine"
    assert training.learning_rates == {"student": 4e-4, "discriminator": 5e-4}
    assert (training.ema_decay, training.autocast) == (0.6, True)


def test_gigagan_is_built_as_its_row_says(commands, files):
    training = build("gigagan", commands, files, "train_gan", "sd15", "none", pairs=Path("work/smoke/pairs/sd-cfg-3"))
    assert type(training.training) is GigaGANTraining and type(training.discriminator) is GigaGANDiscriminator
    teacher = Generator.from_teacher(files["teachers"]["sd15"])
    torch.manual_seed(4)
    assert same_weights(training.student.unet, UNet2DConditionModel.from_config(teacher.unet.config))
    assert training.student.prediction_type == teacher.prediction_type
    assert training.student.scheduler.config == teacher.scheduler.config
    assert training.r1 == (2.3e-4, 5) and training.fractions is None and training.matching_aware
    assert (training.lambda_gan, training.batch_size, training.micro_batches) == (1, 1024, 2)
    assert (training.schedule.iterations, training.schedule.warmup) == (500_000, 7)
    assert training.learning_rates == {"student": 4e-4, "discriminator": 5e-4}
    assert (training.ema_decay, training.autocast, len(training.pairs)) == (0.6, True, 64)


@pytest.mark.parametrize("row", DMDS)
def test_dmd_is_built_as_its_row_says(row, commands, files):
    training = build(row, commands, files, "train_dmd", "sd15", DMDS[row], pairs=Path("work/smoke/pairs/sd-cfg-3"))
    assert type(training.training) is DMDTraining and training.training.averaged == "student"
    assert same_weights(training.student, Generator.from_teacher(files["teachers"]["sd15"]))
    assert same_weights(training.training.fake, training.training.teacher.unet)
    assert set(training.training.modules) == {"student", "fake"}
    assert (training.batch_size, training.micro_batches) == (2304, 8)
    assert training.pairs.folder.name == "sd-cfg-3" and training.pairs.held_out == range(64, 68)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (20_000, 9, "steps")
    assert training.learning_rates == {"student": 7e-4, "fake": 8e-4}
    settings = training.training.settings
    assert (settings.lambda_regression, settings.guidance) == (0.6, 2.0)
    assert (training.ema_decay, training.autocast) == (0.4, True)


def test_dmd2_is_built_as_its_row_says(commands, files):
    training = build("dmd2", commands, files, "train_dmd2", "sd15", "none", pairs=Path("work/smoke/pairs/sd-cfg-3"))
    assert type(training.training) is DMD2Training and training.training.averaged == "student"
    assert same_weights(training.student, Generator.from_teacher(files["teachers"]["sd15"]))
    fake = training.training.modules["fake"]
    assert type(fake) is ScoredDenoiser and same_weights(fake.unet, training.training.teacher.unet)
    assert (training.batch_size, training.micro_batches) == (2048, 8)
    assert training.pairs.folder.name == "sd-cfg-3" and training.pairs.held_out == range(64, 68)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (40_000, 11, "steps")
    assert training.learning_rates == {"student": 7.1e-4, "fake": 8.1e-4}
    settings = training.training.settings
    assert (settings.fake_updates, settings.lambda_adversarial, settings.lambda_head) == (4, 0.02, 0.03)
    assert (settings.guidance, training.ema_decay, training.autocast) == (2.5, 0.45, True)


@pytest.mark.parametrize("row", PROGRESSIVE)
def test_a_progressive_student_is_built_as_its_row_says(row, commands, files):
    steps, substeps, guidance, init, dataset = PROGRESSIVE[row]
    teacher, given = TEACHER_OF[dataset], {"pairs": Path("work/smoke/pairs") / dataset}
    if init:
        given["init"] = Path(f"work/smoke/runs/{init}/student")
    training = build(row, commands, files, "train_progressive", teacher, "mse", **given)
    assert type(training.training) is ProgressiveTraining and training.training.averaged == "student"
    begun = Generator.from_teacher(files["students"][teacher] if init else files["teachers"][teacher])
    assert same_weights(training.student, begun) and same_weights(training.training.previous.unet, begun.unet)
    settings = training.training.settings
    assert (settings.steps, settings.substeps, settings.guidance) == (steps, substeps, guidance)
    assert len(training.training.levels.timesteps) == steps * substeps
    assert (training.batch_size, training.micro_batches) == (512, 2)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (10_000, 3, "cosine")
    assert (training.learning_rates, training.ema_decay, training.autocast) == ({"student": 2e-4}, 0.3, True)


def test_ufogen_is_built_as_its_row_says(commands, files):
    training = build("ufogen", commands, files, "train_ufogen", "sd15", "mse", pairs=Path("work/smoke/pairs/sd-cfg-3"))
    assert type(training.training) is UFOGenTraining and training.training.averaged == "student"
    teacher = Generator.from_teacher(files["teachers"]["sd15"])
    assert same_weights(training.student, teacher)
    discriminator = training.training.modules["discriminator"]
    assert type(discriminator) is DiffusionDiscriminator and not discriminator.multi_scale
    assert discriminator.z_in is None and same_weights(discriminator.unet.down_blocks, teacher.unet.down_blocks)
    settings = training.training.settings
    assert (settings.lambda_reconstruction, len(training.training.levels.timesteps)) == (0.9, 5)
    assert (training.batch_size, training.micro_batches) == (1024, 4)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (20_000, 4, "linear")
    assert training.learning_rates == {"student": 1.1e-4, "discriminator": 1.2e-4}
    assert (training.ema_decay, training.autocast) == (0.2, True)


# row: the weights of the adversarial and of the distillation loss, the pairs, the micro-batches
ADD = {
    "add-m": (0.85, 0.45, "sd-cfg-3", 1),
    "add-adversarial-only": (0.85, 0.0, "sd-cfg-3", 1),
    "add-distillation-only": (0.0, 0.45, "sd-cfg-3", 1),
    "sdxl-turbo": (0.85, 0.45, "sdxl-cfg-7", 2),
}


@pytest.mark.parametrize("row", ADD)
def test_add_is_built_as_its_row_says(row, commands, files):
    lambda_gan, lambda_distillation, dataset, micro_batches = ADD[row]
    teacher = TEACHER_OF[dataset]
    features = Path(f"work/smoke/latentlpips/latent-{teacher}/lpips.safetensors")
    given = {"pairs": Path("work/smoke/pairs") / dataset, "features": features}
    training = build(row, commands, files, "train_add", teacher, "mse", **given)
    assert type(training.training) is ADDTraining and training.training.averaged == "student"
    assert same_weights(training.student, Generator.from_teacher(files["teachers"][teacher]))
    trunk = LPIPS.load(files["metrics"]["latent"]).trunk
    assert same_weights(training.training.features, trunk)
    assert len(training.training.modules["discriminator"].heads) == len(trunk.widths)
    settings = training.training.settings
    assert (settings.lambda_gan, settings.lambda_distillation) == (lambda_gan, lambda_distillation)
    assert (settings.r1_gamma_features, settings.guidance) == (0.2, 5.0)
    assert len(training.training.levels.timesteps) == 3
    assert (training.batch_size, training.micro_batches) == (128, micro_batches)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (4000, 2, "linear")
    assert training.learning_rates == {"student": 1.4e-4, "discriminator": 1.5e-4}
    assert (training.ema_decay, training.autocast) == (0.8, True)


def test_lcm_is_built_as_its_row_says(commands, files):
    given = {"pairs": Path("work/smoke/pairs/sd-cfg-3")}
    training = build("lcm", commands, files, "train_lcm", "sd15", "pseudo_huber", **given)
    assert type(training.training) is LCMTraining and training.training.averaged == "student"
    teacher = Generator.from_teacher(files["teachers"]["sd15"])
    assert same_weights(training.student, teacher) and same_weights(training.training.target, teacher)
    settings = training.training.settings
    assert (settings.target_decay, settings.guidance, len(training.training.levels.timesteps)) == (0.7, 4.0, 6)
    assert (training.batch_size, training.micro_batches) == (72, 1)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (100_000, 5, "steps")
    assert (training.learning_rates, training.ema_decay, training.autocast) == ({"student": 1.3e-4}, 0.1, True)


# row: the steps of the student, the run whose student it starts from
LIGHTNING = {
    "sdxl-lightning-4": (4, "sdxl-progressive-8"),
    "sdxl-lightning-2": (2, "sdxl-lightning-4"),
    "sdxl-lightning": (1, "sdxl-lightning-2"),
}


@pytest.mark.parametrize("row", LIGHTNING)
def test_lightning_is_built_as_its_row_says(row, commands, files):
    steps, init = LIGHTNING[row]
    given = {"pairs": Path("work/smoke/pairs/sdxl-cfg-7"), "init": Path(f"work/smoke/runs/{init}/student")}
    training = build(row, commands, files, "train_lightning", "sdxl", "none", **given)
    assert type(training.training) is LightningTraining and training.training.averaged == "student"
    begun, teacher = (Generator.from_teacher(files[kind]["sdxl"]) for kind in ("students", "teachers"))
    assert same_weights(training.student, begun) and same_weights(training.training.previous.unet, begun.unet)
    discriminator = training.training.modules["discriminator"]
    assert type(discriminator) is EncoderDiscriminator
    assert same_weights(discriminator.unet.down_blocks, teacher.unet.down_blocks)
    settings = training.training.settings
    assert (settings.steps, settings.substeps, settings.conditional_share) == (steps, 2, 0.35)
    assert len(training.training.levels.timesteps) == steps * 2
    assert (training.batch_size, training.micro_batches) == (512, 4)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (10_000, 11, "linear")
    assert training.learning_rates == {"student": 1.8e-4, "discriminator": 1.9e-4}
    assert (training.ema_decay, training.autocast) == (0.45, True)


def test_reflow_is_built_as_its_row_says(commands, files):
    given = {"pairs": Path("work/smoke/pairs/sd-cfg-3")}
    training = build("reflow", commands, files, "train_reflow", "sd15", "mse", **given)
    assert type(training.training) is ReflowTraining and training.training.averaged == "student"
    assert same_weights(training.student, Generator.from_teacher(files["teachers"]["sd15"]))
    assert (training.batch_size, training.micro_batches) == (64, 1)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (70_000, 1, "cosine")
    assert (training.learning_rates, training.ema_decay, training.autocast) == ({"student": 1.6e-4}, 0.65, True)


def test_instaflow_is_built_as_its_row_says(commands, files):
    given = {"pairs": Path("work/smoke/pairs/sd-cfg-3"), "init": Path("work/smoke/runs/reflow/student")}
    training = build("instaflow", commands, files, "train_instaflow", "sd15", "lpips", **given)
    assert type(training.training) is InstaFlowTraining and training.training.averaged == "student"
    begun = Generator.from_teacher(files["students"]["sd15"])
    assert same_weights(training.student, begun) and same_weights(training.training.flow, begun)
    assert training.training.settings.flow_steps == 11
    assert (training.batch_size, training.micro_batches) == (1024, 8)
    assert (training.schedule.iterations, training.schedule.warmup, training.schedule.decay) == (18_000, 10, "steps")
    assert (training.learning_rates, training.ema_decay, training.autocast) == ({"student": 1.7e-4}, 0.55, True)


@pytest.mark.parametrize("row", CONSISTENCY)
def test_consistency_distillation_is_built_as_its_row_says(row, commands, files):
    images = Path("work/smoke/benchmarks/openmoji-32/images")  # what stands for CIFAR-10
    training = build(
        row, commands, files, "train_consistency", "edm-cifar10", "lpips", images=images, lpips_side=64
    )  # fmt: skip
    assert type(training.training) is ConsistencyTraining and training.training.averaged == "student"
    assert same_weights(training.student, training.training.teacher.unet)
    assert len(training.pairs) == 8
    assert (training.batch_size, training.micro_batches) == (512, 1)
    assert (training.schedule.iterations, training.schedule.warmup) == (CONSISTENCY[row], 8)
    assert (training.learning_rates, training.ema_decay, training.autocast) == ({"student": 6e-4}, 0.5, False)
    assert (training.levels, training.target_decay, training.random_flip) == (7, 0.4, True)
