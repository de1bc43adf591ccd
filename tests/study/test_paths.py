"""The files that a run's cost is added up from."""

from pathlib import Path

import pytest
import yaml

from diffusion2gan.study.config import load, merge
from diffusion2gan.study.paths import Paths
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]
SMALL = {
    "datasets": {"sd-cfg-3": {"shards": 2}, "cifar10-1000k": {"shards": 1}},
    "latentlpips": {"latents": {"train": 50000, "val": 100, "shard": 25000}},
}
PAIRS = ["generate_pairs/sd-cfg-3-00000", "generate_pairs/sd-cfg-3-00001"]
ENCODING = ["encode_latents/sd15-train-00000", "encode_latents/sd15-train-00001", "encode_latents/sd15-val-00000"]


def timed(run: str, **changes) -> list[str]:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    study = Study(load(merge(merge(config, SMALL), changes | {"scale": "paper"}), ROOT))
    names = [path.removeprefix("work/paper/timings/").removesuffix(".tsv") for path in Paths(study).timings(run)]
    return [name for name in names if not name.startswith(("prepare_prompts/", "index_pairs/"))]


def test_the_cost_of_a_run_includes_its_pairs_and_its_metric_and_the_latents_that_the_metric_was_trained_on():
    metric = ["calibrate_lpips/latent-sd15", "train_vgg/latent-sd15", *ENCODING]
    assert timed("regression-latentlpips") == timed("diffusion2gan") == [*PAIRS, *metric]


@pytest.mark.parametrize("run, pairs", [("regression-lpips", PAIRS), ("consistency-distillation", [])])
def test_a_metric_that_others_calibrated_costs_nothing(run, pairs):
    assert timed(run) == pairs


def test_weights_of_a_trunk_that_others_trained_are_only_calibrated():
    weights = {"weights": {"latent-sd15": "data/vgg.safetensors"}}
    assert timed("regression-latentlpips", latentlpips=weights) == [*PAIRS, "calibrate_lpips/latent-sd15"]
    assert timed("regression-mse", latentlpips=weights) == PAIRS
