"""train_vgg.py from labelled latents and from collages to a network and its accuracy."""

import json

import pytest
import torch
from safetensors.torch import save_file

from diffusion2gan.errors import UserError
from diffusion2gan.networks.vgg import VGG
from scripts.latentlpips import train_vgg


def arguments(folder, **changed):
    shards = [str(folder / f"latents-{shard}.safetensors") for shard in (0, 1)]
    given = {
        "space": "latent", "data": shards, "validation": shards[:1], "classes": 3, "iterations": 3, "batch_size": 4,
        "learning_rate": 1e-3, "checkpoints": folder / "checkpoints", "out": folder / "vgg.safetensors",
        "metrics": folder / "vgg.json", "width": 0.125, "warmup": 1, "size": 32, "validation_count": 5,
    }  # fmt: skip
    return train_vgg.Arguments(**given | changed)


@pytest.fixture
def latents(tmp_path):
    for shard, count in enumerate((10, 5)):
        data = {"latents": torch.randn(count, 4, 8, 8).half(), "labels": torch.arange(count) % 3}
        save_file(data, tmp_path / f"latents-{shard}.safetensors", metadata={"classes": '["a", "b", "c"]'})
    return tmp_path


def test_trains_on_latents(latents):
    args = arguments(latents)
    train_vgg.main(args)
    network = VGG.load(args.out)
    assert network.space == "latent" and network(torch.randn(1, 4, 8, 8)).shape == (1, 3)
    result = json.loads(args.metrics.read_text())
    assert result["count"] == 10 and 0 <= result["metrics"]["top1"] <= result["metrics"]["top5"] == 1


def test_trains_on_collages(tmp_path):
    args = arguments(tmp_path, space="pixel", data=["openmoji"], validation=["openmoji"], classes=1914)
    train_vgg.main(args)
    assert VGG.load(args.out).space == "pixel" and json.loads(args.metrics.read_text())["count"] == 5


def test_mistakes_are_errors(latents):
    with pytest.raises(UserError, match="encode_latents.py"):
        train_vgg.main(arguments(latents, data=[str(latents / "missing.safetensors")]))
    with pytest.raises(UserError, match="--classes is 2"):
        train_vgg.main(arguments(latents, classes=2))
    data = {"latents": torch.randn(3, 4, 8, 8).half(), "labels": torch.arange(3)}
    save_file(data, latents / "other.safetensors", metadata={"classes": '["a", "c", "d"]'})
    with pytest.raises(UserError, match="other.safetensors' numbers other classes than .*latents-0"):
        train_vgg.main(arguments(latents, validation=[str(latents / "other.safetensors")]))
    with pytest.raises(UserError, match="use one of pixel, latent"):
        train_vgg.main(arguments(latents, space="both"))
