"""score.py: one json of metrics for one folder of samples."""

import json
import shutil
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from cleanfid.fid import fid_from_feats
from metrics.conftest import COUNT, SHIPPED_CLIP, score
from PIL import Image
from safetensors import safe_open

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import bootstrap, clip_score, features, scores
from diffusion2gan.metrics.precision_recall import precision_recall
from diffusion2gan.metrics.samples import ScoredImages
from diffusion2gan.metrics.scores import Scores
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import ImageFiles, image_paths
from diffusion2gan.settings import METRICS
from diffusion2gan.toy.openmoji import EMOJI, Prompt


def mean_colours(folder):
    return np.stack([np.asarray(Image.open(path), dtype=np.float64).mean((0, 1)) for path in image_paths(folder)])


def test_the_metrics_are_those_of_the_images(benchmark, colours):
    result = score(benchmark, metrics=["fid", "precision", "recall"], seed=3)
    drawn, real = mean_colours(benchmark.parent / "drawn"), mean_colours(benchmark / "images")
    precision, recall = precision_recall(torch.from_numpy(drawn), torch.from_numpy(real))
    expected = {"fid": fid_from_feats(drawn, real), "precision": precision, "recall": recall}
    assert result["metrics"] == pytest.approx(expected, rel=1e-4)
    told = [result[name] for name in ("run", "benchmark", "scale", "seed", "features", "count")]
    assert told == ["mine", "coco2014", "smoke", 3, "efficientnet-lite0", COUNT]
    assert result["recipe"]["reference_count"] == 12 and result["recipe"]["resize_filter"] == "lanczos"
    assert {"settings_sha256", "git_commit", "versions", "device", "utc", "seconds"} <= result.keys()


def test_the_settings_hash_follows_the_recipe_and_not_the_clock(benchmark, colours):
    first, again = score(benchmark, metrics=["fid"]), score(benchmark, metrics=["fid"])
    assert first["settings_sha256"] == again["settings_sha256"] and first["metrics"] == again["metrics"]
    assert score(benchmark, metrics=["fid"], resize_filter="box")["settings_sha256"] != first["settings_sha256"]


def test_only_requested_metrics_are_measured(benchmark, colours):
    assert set(score(benchmark, metrics=["recall"])["metrics"]) == {"recall"}


def test_images_enter_the_network_at_the_feature_side(benchmark, monkeypatch):
    sides, name = set(), "efficientnet-lite0"
    monkeypatch.setitem(
        features.NETWORKS, name, lambda device: lambda pixels: sides.add(pixels.shape[2:]) or pixels.mean((2, 3))
    )
    score(benchmark, metrics=["fid"], feature_side=48)
    assert sides == {(48, 48)}


def test_clip_classifies_the_images_of_a_benchmark_with_classes_only(benchmark):
    spec = f"local-dir:{SHIPPED_CLIP}"
    measured = score(benchmark, metrics=["clip_score"], clip=spec)
    assert set(measured["metrics"]) == set(measured["intervals"]) == {"clip_score", "emoji_top1", "ground_top1"}
    assert measured["recipe"]["clip"] == spec
    for part in ("emoji_top1", "ground_top1"):
        share = measured["metrics"][part]
        assert measured["intervals"][part] == pytest.approx(1.96 * (share * (1 - share) / COUNT) ** 0.5)
    table = pd.read_parquet(benchmark / "prompts.parquet")
    clip = clip_score.CLIP(spec, torch.device("cpu"))
    pictures = clip.images(ImageFiles(image_paths(benchmark.parent / "drawn"), 32))
    cosines = (pictures @ clip.captions(table["caption"][:COUNT].tolist()).T).diagonal()
    assert measured["metrics"]["clip_score"] == pytest.approx(cosines.mean().item(), abs=1e-6)
    emoji = [clip.captions([Prompt(e, g).caption for g in range(10)]).mean(0) for e in range(len(EMOJI))]
    named = (pictures @ torch.nn.functional.normalize(torch.stack(emoji)).T).argmax(1)
    right = [found.item() == true for found, true in zip(named, table["emoji"][:COUNT], strict=True)]
    assert measured["metrics"]["emoji_top1"] == np.mean(right)
    prefixed = score(benchmark, metrics=["clip_score"], clip=spec, clip_prefix="a red ")
    said = clip.captions([f"a red {caption}" for caption in table["caption"][:COUNT]])
    found = (pictures @ said.T).diagonal().mean().item()
    assert prefixed["metrics"]["clip_score"] == pytest.approx(found, abs=1e-6)
    assert abs(prefixed["metrics"]["clip_score"] - measured["metrics"]["clip_score"]) > 1e-3
    for part in ("metrics", "intervals"):  # the score without the prefix stands beside it
        assert prefixed[part]["clip_score_no_prefix"] == pytest.approx(measured[part]["clip_score"], abs=1e-6)
    (benchmark / "benchmark.json").unlink()
    assert set(score(benchmark, metrics=["clip_score"], clip=spec)["metrics"]) == {"clip_score"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["fid", "fidd"]}, "metrics.1 is 'fidd', did you mean 'fid'"),
        ({"metrics": ["fid"], "features": "resnet"}, "'resnet'"),
        ({"metrics": ["fid"], "resize_filter": "sinc"}, "'sinc'"),
    ],
)
def test_mistakes_are_named(benchmark, colours, settings, message):
    with pytest.raises(UserError, match=message):
        score(benchmark, **settings)


def kernel_distance(drawn, real):
    """KID by its definition, a pair at a time (Bińkowski et al. 2018, Eq. 4); picture i of `drawn` is (i, features)."""

    def k(x, y):
        return (float(np.dot(x, y)) / len(x) + 1) ** 3

    own = np.mean([k(x, y) for (i, x), (j, y) in permutations(drawn, 2) if i != j])
    across = np.mean([k(x, y) for _, x in drawn for y in real])
    return own + np.mean([k(x, y) for x, y in permutations(real, 2)]) - 2 * across


def half_width(values):
    """Half of the 95 % interval of what resamples gave."""
    return 1.96 * np.std(values, ddof=1)


def test_every_metric_with_its_interval_and_every_image_once(benchmark, colours, drawer, monkeypatch):
    """However many metrics look at them, images go through a network once."""
    captions = pd.read_parquet(benchmark / "prompts.parquet")["caption"].tolist()[:COUNT]
    same = {"captions_sha256": json_sha256(captions)}
    drawn = drawer("drawn", 1, **same)
    seen = []
    monkeypatch.setitem(
        features.NETWORKS,
        "efficientnet-lite0",
        lambda device: lambda pixels: (seen.append(len(pixels)), pixels.mean((2, 3)))[1],
    )
    result = score(
        benchmark, metrics=list(METRICS), second_features="clip", clip=f"local-dir:{SHIPPED_CLIP}",
        dreamsim=f"local-dir:{SHIPPED_CLIP}", teacher_images=drawer("teacher", 2, **same),
        diversity=drawer("several", 3, count=6, repeats=3), resamples=20, seed=4,
    )  # fmt: skip
    metrics, intervals = result["metrics"], result["intervals"]
    assert set(METRICS) <= set(metrics) == set(intervals)
    assert all(width >= 0 for width in intervals.values()) and intervals["fid"] > 0
    assert sum(seen) == COUNT + 12
    clip = f"local-dir:{SHIPPED_CLIP}"
    assert result["recipe"] == {
        "crop": "center", "resolution": 32, "resize_filter": "lanczos", "count": COUNT, "reference_count": 12,
        "captions_sha256": same["captions_sha256"], "network": "efficientnet-lite0", "input_side": 32,
        "input_filter": "bicubic", "clip": clip, "clip_prefix": "", "second_network": clip, "dreamsim": clip,
        "diversity_count": 6, "diversity_repeats": 3,
    }  # fmt: skip
    assert {"features", "reference", "clip", "dreamsim", "fid", "kid"} <= result["parts"].keys()

    clip = clip_score.CLIP(f"local-dir:{SHIPPED_CLIP}", torch.device("cpu"))
    raw = {
        name: clip.embed(ImageFiles(image_paths(folder), 32)).double().numpy()
        for name, folder in {
            "drawn": drawn,
            "teacher": drawn.parent / "teacher",
            "several": drawn.parent / "several",
            "real": benchmark / "images",
        }.items()
    }
    assert metrics["fid_second"] == pytest.approx(fid_from_feats(raw["drawn"], raw["real"]), rel=1e-2)
    assert metrics["kid_second"] == pytest.approx(kernel_distance(list(enumerate(raw["drawn"])), raw["real"]), rel=1e-4)

    unit = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in raw.items()}
    apart = 1 - (unit["drawn"] * unit["teacher"]).sum(1)
    assert metrics["dreamsim"] == pytest.approx(apart.mean(), abs=1e-5)
    for order in (slice(None, None, -1), np.roll(range(COUNT), 1)):  # so that another order would show
        assert abs((1 - (unit["drawn"] * unit["teacher"][order]).sum(1)).mean() - apart.mean()) > 1e-3
    between = [1 - unit["several"][i] @ unit["several"][j] for i, j in ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5))]
    assert metrics["dreamdiv"] == pytest.approx(np.mean(between), abs=1e-5)

    colour, real = mean_colours(drawn), mean_colours(benchmark / "images")
    assert metrics["kid"] == pytest.approx(kernel_distance(list(enumerate(colour)), real), rel=1e-4)
    taken = [np.repeat(range(COUNT), each.astype(int)) for each in bootstrap.weights(COUNT, 20, seed=4).numpy()]
    assert intervals["fid"] == pytest.approx(
        half_width([fid_from_feats(colour[each], real) for each in taken]), rel=1e-3
    )
    resampled = [kernel_distance([(i, colour[i]) for i in each], real) for each in taken]
    assert intervals["kid"] == pytest.approx(half_width(resampled), rel=1e-3)
    assert intervals["dreamsim"] == pytest.approx(half_width([apart[each].mean() for each in taken]), rel=1e-3)
    score(benchmark, metrics=["fid"])
    assert sum(seen) == 2 * COUNT + 12  # the reference is kept
    (kept,) = benchmark.with_name("coco2014.features").glob("clip-*")
    with safe_open(kept, "pt") as file:  # as the automatic rater looks for it
        assert json.loads(file.metadata()["recipe"])["clip"] == f"local-dir:{SHIPPED_CLIP}"


def test_three_images_have_an_fid_though_they_are_too_few_for_a_manifold(benchmark, colours, drawer):
    drawer("drawn", 1, count=3)
    assert set(score(benchmark, metrics=["fid"])["metrics"]) == {"fid"}
    with pytest.raises(ValueError, match="neighbour needs more than 3 images"):
        score(benchmark, metrics=["precision"])


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_measured_without_the_others(benchmark, colours, drawer, metric):
    captions = pd.read_parquet(benchmark / "prompts.parquet")["caption"].tolist()[:COUNT]
    same = {"captions_sha256": json_sha256(captions)}
    drawer("drawn", 1, **same)
    (benchmark / "benchmark.json").unlink()  # no classes
    if metric in ("clip_score", "dreamsim", "dreamdiv"):
        shutil.rmtree(benchmark / "images")  # not needed
    clip = f"local-dir:{SHIPPED_CLIP}"
    result = score(
        benchmark, metrics=[metric], second_features="clip", clip=clip, dreamsim=clip, resamples=5,
        teacher_images=drawer("teacher", 2, **same), diversity=drawer("several", 3, count=6, repeats=3),
    )  # fmt: skip
    assert set(result["metrics"]) == set(result["intervals"]) == {metric}


def test_distances_are_computed_on_the_device_of_the_scores(benchmark, colours, monkeypatch):
    arguments = {"features": "efficientnet-lite0", "resolution": 32, "feature_side": 32}
    wanted = ScoredImages(
        images=benchmark.parent / "drawn", benchmark=benchmark, metrics=["fid", "kid", "precision"], **arguments
    )
    measured = Scores(wanted)
    measured.device, asked = torch.device("meta"), []
    monkeypatch.setattr(scores, "Reference", lambda real, device: asked.append(device))
    monkeypatch.setattr(scores, "resampled_fid", lambda *_: torch.zeros(3))
    monkeypatch.setattr(scores, "resampled_kid", lambda *given: asked.append(given[3]) or torch.zeros(3))
    inside = torch.ones(COUNT, dtype=torch.bool)
    monkeypatch.setattr(scores, "inside_manifolds", lambda *_, device: asked.append(device) or (inside, inside))
    fake, real = torch.rand(2, COUNT, 3)
    measured._distances(fake, real, "")
    measured._manifolds(fake, real)
    assert asked == [torch.device("meta")] * 3


@pytest.mark.parametrize("there", [True, False], ids=["gpu", "cpu"])
def test_scores_are_computed_on_the_gpu_if_there_is_one(benchmark, monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    wanted = ScoredImages(images=benchmark.parent / "drawn", benchmark=benchmark, metrics=[], resolution=32)
    assert Scores(wanted).device == torch.device("cuda" if there else "cpu")


def test_the_second_distances_are_those_of_the_second_network(benchmark, colours, monkeypatch):
    made = []

    def brightest(device):
        return lambda pixels: made.append(pixels.amax((2, 3))) or made[-1]

    monkeypatch.setitem(features.NETWORKS, "dinov2", brightest)
    result = score(benchmark, metrics=["fid_second", "kid_second"], second_features="dinov2")
    drawn, real = (each.double().numpy() for each in made)
    assert (len(drawn), len(real)) == (COUNT, 12)
    expected = {"fid_second": fid_from_feats(drawn, real)}
    expected["kid_second"] = kernel_distance(list(enumerate(drawn)), real)
    assert result["metrics"] == pytest.approx(expected, rel=1e-4)
    second = {"second_network": "dinov2", "second_input_side": 224, "second_input_filter": "bicubic"}
    assert second.items() <= result["recipe"].items() and "network" not in result["recipe"]


def test_an_interval_that_few_images_do_not_define_is_left_out():
    """A resample of two images may take one of them twice, which has no KID."""
    scores = Scores.__new__(Scores)
    scores.values, scores.intervals = {}, {}
    scores._resampled("kid", torch.tensor([0.5, 0.25, torch.nan]))
    scores._resampled("fid", torch.tensor([2.0, 1.0, 3.0]))
    assert scores.values == {"kid": 0.5, "fid": 2.0} and list(scores.intervals) == ["fid"]
