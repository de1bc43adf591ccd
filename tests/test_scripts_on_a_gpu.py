"""Every script that runs a network runs it on the GPU if there is one. None is needed here: each script is stopped
where it first hands its device on."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from diffusion2gan.pairs.prompts import choose_prompts
from scripts.data import encode_latents
from scripts.evaluate import sample
from scripts.latentlpips import calibrate_lpips, reconstruct, time_losses
from scripts.pairs import generate_pairs
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


@pytest.mark.parametrize("there", [True, False], ids=["gpu", "cpu"])
@pytest.mark.parametrize("script", [encode, draw, calibrate, descend, time, solve, rate])
def test_a_network_runs_on_the_gpu_if_there_is_one(tmp_path, monkeypatch, script, there):
    module, consumer, arguments = script(tmp_path)
    handed = []

    def stop(*given, **named):
        handed.extend(each for each in (*given, *named.values()) if isinstance(each, torch.device | torch.dtype))
        handed.extend(torch.device(each) for each in given if each in ("cuda", "cpu"))
        raise _Stopped

    stand_in = stop
    if consumer == "VGG":  # loaded first, then moved
        stand_in = SimpleNamespace(load=lambda path: SimpleNamespace(to=stop, space="pixel"))
    monkeypatch.setattr(module, consumer, stand_in)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    with pytest.raises(_Stopped):
        module.main(arguments)
    wanted = [torch.device("cuda" if there else "cpu")]
    if script is solve:  # pairs are solved in half precision on a GPU
        wanted.append(torch.float16 if there else torch.float32)
    assert sorted(handed, key=str) == sorted(wanted, key=str)
