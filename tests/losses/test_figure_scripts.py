"""The scripts of Figures 2 and 3: what they time, what they descend on, and what they write."""

import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from built import compared, metric
from safetensors.torch import load_file
from torch.nn import functional as F

from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.losses.ensemble import Ensemble, Transform
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.metrics.speed import Timing
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.seeds import mix, noise
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy.collages import Collages
from scripts.latentlpips import reconstruct, time_losses

LATENT, IMAGE = (4, 16, 16), (3, 64, 64)


@pytest.fixture
def timed(small_teacher_folder, tmp_path, monkeypatch):
    """Runs time_losses with clocks that stand still; returns the lines of its table, what each step called, the file
    beside it, and how it was measured."""
    events, steps, how = [], [], []

    def watch(kind, name, event):
        function = getattr(kind, name)

        def watched(self, x, *more, **options):
            events.append((event, tuple(x.shape), x.requires_grad, torch.is_autocast_enabled("cpu")))
            return function(self, x, *more, **options)

        monkeypatch.setattr(kind, name, watched)

    watch(Teacher, "decode", "decode")
    watch(LPIPS, "forward", "metric")
    watch(Transform, "__call__", "augment")

    def seconds(step, warmup, repeats):
        events.clear()
        step()
        steps.append(list(events))
        how.append((warmup, repeats))
        return Timing(len(steps) / 1e3, 0.0, repeats)

    def extra_memory(step, device):
        assert device == torch.device("cpu")
        events.clear()
        step()
        assert events == steps[-1]  # the memory is that of the step that was timed
        return len(steps) * 2**20

    monkeypatch.setattr(time_losses, "seconds", seconds)
    monkeypatch.setattr(time_losses, "extra_memory", extra_memory)

    def run(autocast=False):
        out, hardware = tmp_path / "new" / "costs.csv", tmp_path / "new" / "hardware.json"
        time_losses.main(
            time_losses.Arguments(
                teacher=str(small_teacher_folder),
                width=0.125,
                batch_size=3,
                repeats=4,
                autocast=autocast,
                out=out,
                hardware=hardware,
            )  # fmt: skip
        )
        return pd.read_csv(out), steps, json.loads(hardware.read_text()), how

    return run


@pytest.mark.parametrize("autocast", [False, True])
def test_each_loss_and_each_part_is_timed_for_a_batch_and_its_gradient(timed, small_teacher_folder, autocast):
    table, steps, hardware, how = timed(autocast)
    parts = [
        ("LPIPS", "total"), ("LPIPS", "decode"), ("LPIPS", "trunk"), ("LatentLPIPS", "total"), ("LatentLPIPS", "trunk"),
        *(
            (name, part)
            for name in ("E-LatentLPIPS", "E-LatentLPIPS (bicubic)", "E-LatentLPIPS (bilinear)")
            for part in ("total", "augmentation", "trunk")
        ),
    ]  # fmt: skip
    assert list(zip(table["loss"], table["part"], strict=True)) == parts
    assert table["milliseconds"].tolist() == pytest.approx(range(1, 15))
    memory = [number if part == "total" else None for number, (_, part) in enumerate(parts, 1)]
    assert [None if np.isnan(each) else each for each in table["mebibytes"]] == memory
    assert set(how) == {(2, 4)}

    def called(*names):
        """The sorted events of these names. Of two of a kind only one needs a gradient: the target does not."""
        shapes = {"decode": LATENT, "pixels": IMAGE, "latents": LATENT, "augment": LATENT}
        kinds = {"pixels": "metric", "latents": "metric"}
        seen, events = set(), []
        for name in names:
            events.append((kinds.get(name, name), (3, *shapes[name]), name not in seen, autocast))
            seen.add(name)
        return sorted(events)

    assert [sorted(events) for events in steps] == [
        called("decode", "decode", "pixels"), called("decode", "decode"), called("pixels"),
        called("latents"), called("latents"),
        *[called("augment", "augment", "latents"), called("augment", "augment"), called("latents")] * 3,
    ]  # fmt: skip
    settings = {
        "teacher": str(small_teacher_folder), "width": 0.125, "batch_size": 3, "repeats": 4, "autocast": autocast,
    }  # fmt: skip
    assert settings.items() <= hardware.items() and hardware["settings"] == settings
    assert hardware["device"].startswith("cpu")


def test_a_step_is_the_gradient_to_the_first_batch_alone():
    inputs, seen = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), []

    def loss(x0, x1):
        seen.append((x0, x1))
        return x0.square() * x1

    time_losses.a_step(loss, inputs, False)()
    ((x0, x1),) = seen
    assert torch.equal(x0.grad, torch.tensor([3.0, 10.0])) and not x1.requires_grad and x1.grad is None


def test_the_timed_metrics_have_the_width_of_the_option():
    for space, channels in (("pixel", 3), ("latent", 4)):
        made = time_losses.random_metric(space, channels, 0.125)
        assert made.space == space and made.trunk.widths == VGG(space, channels, 0, width=0.125).widths


@pytest.fixture
def files(tmp_path, small_teacher_folder):
    return {
        "teacher": str(small_teacher_folder), "images": "openmoji", "curves": tmp_path / "new/deeper/curves.csv",
        "pictures_out": tmp_path / "new" / "pictures.safetensors",
        "latent_metric": metric(tmp_path / "latent.safetensors", "latent"),
        "pixel_metric": metric(tmp_path / "pixel.safetensors", "pixel"),
    }  # fmt: skip


def test_each_latent_descends_as_if_it_were_alone(files):
    """Two images, three starts: every curve and every image against a descent of a single latent, written out."""
    reconstruct.main(
        reconstruct.Arguments(
            loss="mse", pictures=2, seeds=3, iterations=5, learning_rate=0.1, log_every=2, seed=7, **files
        )
    )
    table, pictures = pd.read_csv(files["curves"]), load_file(files["pictures_out"])
    assert list(table) == ["step", "seed", "picture", "metric", "pixel_mse"]
    assert table["step"].unique().tolist() == [0, 2, 4, 5] and len(table) == 4 * 6
    teacher, metric = Teacher(files["teacher"]), LPIPS.load(files["latent_metric"])
    collages = Collages(mix(7, 2), 64)  # the split `val`
    for seed in range(3):
        for picture in range(2):
            image = to_tensor([collages.image(picture)])
            with torch.no_grad():
                target = teacher.encode_images(image)
                seen = teacher.decode(target)
            x = noise([mix(7, seed, picture)], LATENT).requires_grad_()
            optimizer, curve = torch.optim.Adam([x], 0.1), []
            for step in range(6):
                with torch.no_grad():
                    curve.append((step, metric(x, target).item(), F.mse_loss(teacher.decode(x), seen).item()))
                optimizer.zero_grad()
                F.mse_loss(x, target).backward()
                optimizer.step()
            ours = table[(table["seed"] == seed) & (table["picture"] == picture)]
            for (step, distance, error), line in zip([curve[i] for i in (0, 2, 4, 5)], ours.itertuples(), strict=True):
                assert line.step == step
                assert (line.metric, line.pixel_mse) == pytest.approx((distance, error), rel=2e-3)
            if seed == 0:
                with torch.no_grad():
                    shown = {"target": seen, "found": teacher.decode(x)}
                for name, image in shown.items():
                    ours = pictures[name][picture].numpy().astype(int)
                    assert abs(ours - to_uint8(image)[0]).max() <= 1  # another size of batch rounds differently
    assert pictures["target"].shape == pictures["found"].shape == (2, 64, 64, 3)


@pytest.mark.parametrize(("loss", "shape"), [("lpips", IMAGE), ("latent_lpips", LATENT), ("e_latent_lpips", LATENT)])
def test_a_latent_is_found_under_the_loss_of_the_option(files, monkeypatch, loss, shape):
    wanted, made = [], reconstruct.regression_loss

    def recorded(settings, metric_file, decode, device):
        wanted.append((settings.loss, metric_file, settings.ensemble, str(device)))
        return made(settings, metric_file, decode, device)

    monkeypatch.setattr(reconstruct, "regression_loss", recorded)
    seen = compared(monkeypatch)
    options = {"pictures": 2, "seeds": 1, "iterations": 1, "learning_rate": 0.1, "log_every": 1}
    reconstruct.main(reconstruct.Arguments(loss=loss, ensemble="bg", **options, **files))
    file = files["pixel_metric" if loss == "lpips" else "latent_metric"]
    assert wanted == [(loss, file, "bg", "cpu")]
    # at both steps, the measured latents and then those of the loss
    assert [tuple(x0.shape[1:]) for x0, _ in seen] == [LATENT, shape, LATENT, shape]
    if loss == "e_latent_lpips":
        torch.manual_seed(0)  # the transforms follow the seed
        moved = Ensemble("bg")(*seen[0])
        assert torch.allclose(seen[1][0], moved[0], atol=1e-5) and torch.allclose(seen[1][1], moved[1], atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_bfloat16_whatever_the_default_of_a_device(monkeypatch, autocast):
    """On a GPU the default would be float16."""
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda *given, **how: asked.append((given, how)) or nullcontext())
    time_losses.a_step(lambda x0, x1: x0, torch.ones(2, 3), autocast)()
    assert asked == [(("cpu", torch.bfloat16), {"enabled": autocast})]
