"""What score.py times: the model that sampled the images, and each part of the scoring."""

import json
from types import SimpleNamespace

import pytest
import torch
from metrics.conftest import COUNT, score

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import features, scores
from diffusion2gan.metrics.samples import ScoredImages
from diffusion2gan.metrics.scores import Scores
from diffusion2gan.metrics.speed import Timing
from diffusion2gan.sampling import sampler
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy


def test_a_model_is_sized_and_timed_as_it_sampled(benchmark, colours, monkeypatch):
    solved, solve = [], Teacher.solve

    def recorded(self, z, captions, *how):
        solved.append((len(z), *how))
        return solve(self, z, captions, *how)

    monkeypatch.setattr(Teacher, "solve", recorded)
    result = score(benchmark, metrics=["recall"], time=True)
    weights = sum(weight.numel() for weight in toy.unet().parameters())
    assert result["metrics"]["params_billion"] == pytest.approx(weights / 1e9)
    assert result["metrics"]["steps"] == 2
    assert 0 < result["metrics"]["inference_seconds"] == result["speed"]["median"]
    assert len(solved) > result["speed"]["repeats"] and set(solved) == {(1, 2, 2.0, "ddim", "own")}
    assert result["speed"]["precision"] == "float32"


@pytest.mark.parametrize(("scheduler", "steps"), [("ddim", 50), ("student", 1), ("lcm", 1)])
def test_on_a_gpu_every_model_is_timed_in_half_precision(benchmark, monkeypatch, scheduler, steps):
    """However it sampled its images: a student of one step samples in float32."""
    recipe = json.loads((benchmark.parent / "drawn" / "sample.json").read_text())
    recipe |= {"scheduler": scheduler, "steps": steps}
    (benchmark.parent / "drawn" / "sample.json").write_text(json.dumps(recipe))

    class Model:
        def __init__(self, path, device, dtype, **how):
            self.device, self.latent_shape = device, (4, 16, 16)
            self.unet = self.denoiser = torch.nn.Linear(2, 2, dtype=dtype)

        def sample(self, seeds, captions):
            return torch.zeros(1, 3, 8, 8)

        def solve(self, z, captions, *how):
            return z

        def decode(self, latents):
            return torch.zeros(1, 3, 8, 8)

    monkeypatch.setattr(sampler, "load_teacher", Model)
    monkeypatch.setattr(sampler, "Baseline", Model)
    drawn = benchmark.parent / "drawn"
    scores = Scores(ScoredImages(images=drawn, benchmark=benchmark, metrics=[], resolution=32, time=True))
    scores.device = torch.device("cuda")
    scores.measure()
    assert scores.speed["precision"] == "float16"


def test_images_from_elsewhere_are_scored_but_not_timed(benchmark, colours):
    (benchmark.parent / "drawn" / "sample.json").unlink()
    assert score(benchmark, metrics=["fid"])["sample"] is None
    with pytest.raises(UserError, match="no sample.json"):
        score(benchmark, metrics=["fid"], time=True)


def test_the_seconds_of_each_part_are_added_up(benchmark, colours, monkeypatch):
    """On a clock that moves on by a sixteenth of a second when it is read, and by two with the network's features."""
    clock = SimpleNamespace(now=0.0)

    def monotonic():
        clock.now += 0.0625125
        return clock.now

    class Slow(features.Features):
        def __call__(self, images):
            clock.now += 2
            return super().__call__(images)

    monkeypatch.setattr(scores, "time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr(scores, "Features", Slow)
    monkeypatch.setattr(scores, "inside_manifolds", lambda *_, device: (torch.ones(COUNT) > 0, torch.ones(12) > 0))
    monkeypatch.setattr(scores, "seconds", lambda call: Timing(0.5, 0.1, 4))
    monkeypatch.setattr(sampler, "load_sampler", lambda *_: (None, torch.nn.Linear(1, 1)))
    settings = {"features": "efficientnet-lite0", "resolution": 32, "feature_side": 32, "time": True}
    metrics = ["fid", "kid", "precision", "recall"]
    wanted = ScoredImages(images=benchmark.parent / "drawn", benchmark=benchmark, metrics=metrics, **settings)
    measured = Scores(wanted).measure()
    assert measured.parts == {
        "features": 2.063, "reference": 2.063, "fid": 0.063, "kid": 0.063, "precision_recall": 0.063, "time": 0.063,
    }  # fmt: skip
    with measured._part("fid"):
        clock.now += 1
    assert measured.parts["fid"] == pytest.approx(1.126, abs=1e-3)
