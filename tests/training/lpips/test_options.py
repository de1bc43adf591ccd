"""From the options of train_vgg.py and calibrate_lpips.py to what trains, what is evaluated, and what is recorded."""

import json

import pandas as pd
import pytest
import torch
from official import bapps
from safetensors.torch import load_file, save_file

from diffusion2gan.data.bapps import judgements
from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.errors import UserError
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.seeds import batch_indices
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.loop import Schedule
from diffusion2gan.training.lpips.calibration import encode, two_afc
from scripts.latentlpips import calibrate_lpips, train_vgg

HISTORY = pd.DataFrame({"step": [0, 1], "seconds": [1.0, 2.0], "loss": [0.5, 0.25]})


@pytest.fixture
def given(monkeypatch):
    """What the loop of a script is given; it trains nothing."""

    caught = {}

    def train(training, schedule, folder, settings, seed):
        caught.update(training=training, schedule=schedule, folder=folder, settings=settings, seed=seed)
        return HISTORY

    for script in (train_vgg, calibrate_lpips):
        monkeypatch.setattr(script, "train", train)
        clock = iter([100.0, 107.5])
        monkeypatch.setattr(script.time, "monotonic", lambda clock=clock: next(clock, 107.5))
    return caught


VGG_OPTIONS = {
    "classes": 1914, "width": 0.125, "size": 32, "iterations": 9, "batch_size": 4, "learning_rate": 2e-3,
    "weight_decay": 0.3, "label_smoothing": 0.2, "warmup": 3, "validation_count": 7, "workers": 0, "autocast": True,
    "seed": 6,
}  # fmt: skip
COMPARED = ["classes", "width", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "autocast"]


@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_the_options_of_a_vgg_arrive(given, tmp_path, monkeypatch, space):
    latents = torch.randn(300, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    labels = torch.arange(300) % 1914
    for name, rows in (("a", slice(200)), ("b", slice(200, 300))):
        tensors = {"latents": latents[rows].clone(), "labels": labels[rows].clone()}
        save_file(tensors, tmp_path / name, metadata={"classes": json.dumps(list(map(str, range(1914))))})
    data = [str(tmp_path / "a")] if space == "latent" else ["openmoji"]
    validation = [str(tmp_path / "a"), str(tmp_path / "b")] if space == "latent" else ["openmoji"]
    measured, batches = [], []

    def accuracy(network, held_out):
        batches.extend(held_out)
        measured.append(network)
        return {"top1": 0.25, "top5": 0.5, "count": 11}

    monkeypatch.setattr(train_vgg, "accuracy", accuracy)
    monkeypatch.setattr(train_vgg, "EVALUATION_BATCH", 128 if space == "latent" else 3)
    torch.manual_seed(99)
    out, metrics = tmp_path / "new" / "vgg.safetensors", tmp_path / "new" / "vgg.json"
    train_vgg.main(
        train_vgg.Arguments(
            space=space,
            data=data,
            validation=validation,
            checkpoints=tmp_path / "checkpoints",
            out=out,
            metrics=metrics,
            **VGG_OPTIONS,
        )  # fmt: skip
    )

    training, compared = given["training"], {"space": space} | {name: VGG_OPTIONS[name] for name in COMPARED}
    assert given["schedule"] == Schedule(9, 3, "steps") and given["folder"] == tmp_path / "checkpoints"
    assert given["settings"] == compared and given["seed"] == 6
    channels = 4 if space == "latent" else 3
    network = training.modules["vgg"]
    assert (network.space, network.channels, network.settings["classes"]) == (space, channels, 1914)
    assert network.settings["width"] == 0.125
    torch.manual_seed(6)
    seeded = VGG(space, channels, 1914, 0.125).state_dict()
    assert all(torch.equal(weight, seeded[name]) for name, weight in network.state_dict().items())
    (group,) = training.optimizers["vgg"].param_groups
    assert (group["lr"], group["weight_decay"]) == (2e-3, 0.3)
    assert (training.settings.label_smoothing, training.settings.autocast) == (0.2, True)
    assert training.batches.rows == slice(0, 4)  # of this process

    inputs, taught = training.batches(2)
    if space == "latent":
        chosen = batch_indices(2, 4, 200, 6)
        assert inputs.shape == (4, 4, 8, 8) and torch.equal(taught, labels[chosen])
        assert [len(each) for each, _ in batches] == [128, 128, 44]
        assert all(each.dtype == torch.float32 for each, _ in batches)
        assert torch.equal(torch.cat([each for each, _ in batches]), latents.float())
        assert torch.equal(torch.cat([each for _, each in batches]), labels)
    else:
        pictures, others = (LabelledImages("openmoji", split, 32, 6) for split in ("train", "val"))
        assert torch.equal(inputs, _pixels(pictures, range(8, 12))) and training.batches.workers == 0
        assert taught.tolist() == [pictures[i][1] for i in range(8, 12)]
        assert [len(each) for each, _ in batches] == [3, 3, 1]
        assert torch.equal(torch.cat([each for each, _ in batches]), _pixels(others, range(7)))

    assert measured == [network]
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in load_file(out).items())
    pd.testing.assert_frame_equal(pd.read_csv(out.with_suffix(".csv")), HISTORY)
    result = json.loads(metrics.read_text())
    assert result["metrics"] == {"top1": 0.25, "top5": 0.5} and result["count"] == 11
    assert result["seed"] == 6 and result["seconds"] == 7.5
    assert result["settings"] == compared | {"iterations": 9, "seed": 6} and result["device"].startswith("cpu")


def _pixels(pictures, indices):
    return torch.stack([torch.from_numpy(pictures[i][0].copy()) for i in indices]).permute(0, 3, 1, 2) / 127.5 - 1


def test_images_with_other_classes_are_one_line(tmp_path):
    options = VGG_OPTIONS | {"classes": 5, "iterations": 1}
    with pytest.raises(UserError) as said:
        train_vgg.main(
            train_vgg.Arguments(
                space="pixel",
                data=["openmoji"],
                validation=["openmoji"],
                checkpoints=tmp_path / "c",
                out=tmp_path / "o",
                metrics=tmp_path / "m",
                **options,
            )  # fmt: skip
        )
    assert str(said.value) == "openmoji has 1914 classes and --classes is 5: make them agree"


@pytest.mark.parametrize("space", ["latent", "pixel"])
def test_the_options_of_a_calibration_arrive(given, tmp_path, small_teacher_folder, monkeypatch, space):
    scored = lambda metric, held_out, device: two_afc(metric, held_out, device)  # noqa: E731
    monkeypatch.setattr(calibrate_lpips, "two_afc", scored)  # the device has no default here
    torch.manual_seed(1)
    trunk = VGG(space, 4 if space == "latent" else 3, 0, width=0.125)
    trunk.save(tmp_path / "vgg.safetensors")
    torch.manual_seed(99)
    out, metrics = tmp_path / "new" / "lpips.safetensors", tmp_path / "new" / "lpips.json"
    calibrate_lpips.main(
        calibrate_lpips.Arguments(
            trunk=tmp_path / "vgg.safetensors",
            space=space,
            judgements="openmoji",
            size=64,
            iterations=9,
            checkpoints=tmp_path / "checkpoints",
            out=out,
            metrics=metrics,
            count=8,
            held_out=6,
            batch_size=3,
            learning_rate=2e-3,
            seed=6,
            teacher=str(small_teacher_folder) if space == "latent" else "",
        )  # fmt: skip
    )

    training = given["training"]
    assert given["schedule"] == Schedule(9, 0, "linear") and given["folder"] == tmp_path / "checkpoints"
    compared = {
        "space": space, "judgements": "openmoji", "count": 8, "size": 64, "batch_size": 3, "learning_rate": 2e-3,
    }  # fmt: skip
    assert given["settings"] == compared and given["seed"] == 6
    assert (training.batch_size, training.seed) == (3, 6)
    assert training.optimizers["heads"].param_groups[0]["lr"] == 2e-3
    to_space = Teacher(str(small_teacher_folder)).encode_images if space == "latent" else torch.nn.Identity()
    triplets, held_out = (
        encode(judgements("openmoji", split, 6, 64), count, 6, to_space) for split, count in (("train", 8), ("val", 6))
    )
    assert torch.equal(training.triplets.patches, triplets.patches)
    assert torch.equal(training.triplets.judge, triplets.judge)

    metric, x = LPIPS.load(out), torch.randn(2, 2, trunk.channels, 16, 16)
    wanted = LPIPS(trunk, [torch.full((width,), 0.1) for width in trunk.widths])
    torch.testing.assert_close(metric(*x), wanted(*x))
    pd.testing.assert_frame_equal(pd.read_csv(out.with_suffix(".csv")), HISTORY)
    result = json.loads(metrics.read_text())
    assert result["metrics"] == pytest.approx(two_afc(wanted, held_out))
    assert (result["judgements"], result["count"], result["seed"], result["seconds"]) == ("synthetic", 6, 6, 7.5)
    assert result["settings"] == compared | {"held_out": 6, "iterations": 9, "seed": 6}


def test_latents_are_not_calibrated_without_a_teacher_nor_on_another_space(tmp_path):
    for space in ("latent", "pixel"):
        VGG(space, 4 if space == "latent" else 3, 0, width=0.125).save(tmp_path / f"{space}.safetensors")
    common = {"judgements": "openmoji", "iterations": 1} | {name: tmp_path / name for name in ("checkpoints", "out")}
    common |= {"metrics": tmp_path / "metrics"}
    latent, pixel = tmp_path / "latent.safetensors", tmp_path / "pixel.safetensors"
    with pytest.raises(UserError) as said:
        calibrate_lpips.main(calibrate_lpips.Arguments(trunk=pixel, space="latent", **common))
    assert str(said.value) == f"{pixel} was trained on pixels and --space is latent: make them agree"
    with pytest.raises(UserError) as said:
        calibrate_lpips.main(calibrate_lpips.Arguments(trunk=latent, space="latent", **common))
    assert str(said.value) == "judgements are encoded by a teacher's VAE: give the pipeline as --teacher"


def test_a_calibration_on_bapps_says_so(given, tmp_path):
    trunk = VGG("pixel", 3, 0, width=0.125)
    trunk.save(tmp_path / "vgg.safetensors")
    files = {name: tmp_path / name for name in ("checkpoints", "metrics")} | {"out": tmp_path / "lpips.safetensors"}
    calibrate_lpips.main(
        calibrate_lpips.Arguments(
            trunk=tmp_path / "vgg.safetensors",
            space="pixel",
            judgements=str(bapps.whole(tmp_path / "2afc")),
            iterations=1,
            count=5,
            **files,
        )  # fmt: skip
    )
    result = json.loads(files["metrics"].read_text())
    assert (result["judgements"], result["count"], len(given["training"].triplets)) == ("bapps", 12, 5)
    assert {name for name in result["metrics"] if name.startswith("2afc_")} == {
        "2afc_pooled", "2afc_human", *(f"2afc_{subset}" for subset in bapps.VAL),
    }  # fmt: skip
