"""Every script that runs a network runs it on the GPU if there is one. None is needed here: each script is stopped
where it first hands its device on."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from built import pairs
from methods.made import METHODS, SCRATCH

from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pairs.prompts import choose_prompts
from diffusion2gan.training import distributed
from scripts.data import encode_latents
from scripts.distill import train_consistency, train_gan, train_regression
from scripts.evaluate import sample
from scripts.latentlpips import calibrate_lpips, reconstruct, time_losses
from scripts.pairs import generate_pairs, inspect_pairs
from scripts.report import rate_automatically

FILE = Path("a-file")


class _Stopped(Exception):
    pass


def encode(folder):
    return encode_latents, "Teacher", encode_latents.Arguments("toy", "openmoji", "val", 1, 64, FILE)


def draw(folder):
    return sample, "load_sampler", sample.Arguments(model="toy", prompt=["a fox"], out=FILE)


def calibrate(folder):
    files = dict.fromkeys(("trunk", "checkpoints", "out", "metrics"), FILE)
    options = {"space": "pixel", "judgements": "openmoji", "iterations": 1}
    return calibrate_lpips, "VGG", calibrate_lpips.Arguments(**files, **options)


def descend(folder):
    files = dict.fromkeys(("latent_metric", "curves", "pictures_out"), FILE)
    options = {"loss": "mse", "teacher": "toy", "images": "openmoji", "iterations": 1, "learning_rate": 1.0}
    return reconstruct, "Teacher", reconstruct.Arguments(**files, **options)


def time(folder):
    return time_losses, "Teacher", time_losses.Arguments(teacher="toy", width=1.0, out=FILE, hardware=FILE)


def solve(folder):
    choose_prompts("openmoji", 3, 0).to_parquet(folder / "prompts.parquet", index=False)
    options = {"teacher": "toy", "count": 3, "shards": 1, "shard": 0, "steps": 2, "guidance": 1.0, "batch_size": 1}
    return (
        generate_pairs,
        "load_teacher",
        generate_pairs.Arguments(**options, prompts=folder / "prompts.parquet", out=FILE),
    )


def rate(folder):
    key = pd.DataFrame({"trial": [0], "question": ["realism"], "picture": [0], "caption": ["a fox"], "row": "a"})
    key.assign(against="b", left="a", right="b").to_csv(folder / "key.csv", index=False)
    given = {"key": folder / "key.csv", "models": [], "benchmark": FILE, "out": FILE, "resolution": 8}
    return rate_automatically, "CLIP", rate_automatically.Arguments(**given)


def calibrate_latents(folder):
    VGG("latent", 4, 0, width=0.125).save(folder / "vgg.safetensors")
    _, _, arguments = calibrate(folder)
    changed = {"trunk": folder / "vgg.safetensors", "space": "latent", "teacher": "toy"}
    return calibrate_lpips, "Teacher", arguments.model_copy(update=changed)


def inspect(folder):
    found = pairs(folder / "pairs", "toy", torch.randn(3, 4, 16, 16))
    return inspect_pairs, "load_teacher", inspect_pairs.Arguments(found)


TRAINING = dict.fromkeys(("checkpoints", "out", "history", "metrics"), FILE)
TRAINING |= {"teacher": "toy", "loss": "mse", "iterations": 1, "batch_size": 1}


def regress(folder):
    return train_regression, "load_teacher", train_regression.Arguments(**TRAINING, pairs=FILE)


def play(folder):
    return train_gan, "Teacher", train_gan.Arguments(**TRAINING, pairs=FILE, init=FILE)


OWN = {
    "dmd2": {"loss": "none"},
    "gigagan-from-scratch": SCRATCH,
    "instaflow": {"init": FILE},
    "lightning": {"loss": "none", "init": FILE, "steps": 1},
    "progressive": {"steps": 4},
}


def distil(name):
    def method(folder):
        stage = {"gigagan-from-scratch": "gan"}.get(name, name)
        script = importlib.import_module(f"scripts.distill.train_{stage}")
        return script, "Teacher", script.Arguments(**TRAINING | OWN.get(name, {}), pairs=FILE)

    method.__name__ = name
    return method


def be_consistent(folder):
    return train_consistency, "PixelTeacher", train_consistency.Arguments(**TRAINING, images=FILE)


SCRIPTS = [encode, draw, calibrate, calibrate_latents, descend, time, solve, rate, inspect]
SCRIPTS += [regress, play, be_consistent, *map(distil, METHODS)]


@pytest.mark.parametrize("there", [True, False], ids=["gpu", "cpu"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_network_runs_on_the_gpu_if_there_is_one(tmp_path, monkeypatch, script, there):
    module, consumer, arguments = script(tmp_path)
    handed, asked = [], []

    def stop(*given, **named):
        handed.extend(each for each in (*given, *named.values()) if isinstance(each, torch.device | torch.dtype))
        handed.extend(torch.device(each) for each in given if each in ("cuda", "cpu"))
        raise _Stopped

    stand_in = stop
    if consumer == "VGG":  # loaded first, then moved
        stand_in = SimpleNamespace(load=lambda path: SimpleNamespace(to=stop, space="pixel"))
    monkeypatch.setattr(module, consumer, stand_in)
    if script is calibrate_latents:  # its trunk stays where it is
        monkeypatch.setattr(VGG, "to", lambda trunk, *where, **how: trunk)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    # what torchrun's processes agree on
    monkeypatch.setattr(distributed, "device", lambda: torch.device("cuda" if there else "cpu"))
    with pytest.raises(_Stopped):
        module.main(arguments)
    wanted = [torch.device("cuda" if there else "cpu")]
    if script is solve:  # pairs are solved in half precision on a GPU
        wanted.append(torch.float16 if there else torch.float32)
    assert sorted(handed, key=str) == sorted(wanted, key=str)
    # with TF32 a GPU samples and trains in float32 in less time; trainings ask for it in their loop
    assert asked == (["high"] if script is draw and there else [])
