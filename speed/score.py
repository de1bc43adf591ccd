"""Scoring: images per second, where the time goes, and how many images pass through a network.

    python speed/score.py                             # synthetic images, the networks of the small scales
    python speed/score.py --count 5000 --features inception --resolution 256 --feature_side 299

All metrics are computed at once, then the FID alone: both compute the same features.
"""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from diffusion2gan.metrics import features
from diffusion2gan.metrics.samples import ScoredImages
from diffusion2gan.metrics.scores import Scores
from diffusion2gan.provenance import describe, json_sha256
from diffusion2gan.sampling.folder import image_paths
from diffusion2gan.study import cli
from diffusion2gan.toy.openmoji import Scenes

METRICS = ["fid", "kid", "precision", "recall", "fid_second", "kid_second", "clip_score"]


@dataclass
class Arguments:
    count: int = 500
    resolution: int = 64
    features: str = "efficientnet-lite0"
    feature_side: int = 128
    clip: str = "local-dir:assets/toy/clip"
    resamples: int = 50


def main(args: Arguments):
    print(f"on {describe(torch.device('cuda' if torch.cuda.is_available() else 'cpu'))}, {args.count} images")
    counted = count_calls(args.features)
    with tempfile.TemporaryDirectory() as folder:
        make(args, Path(folder))
        measure(args, Path(folder), METRICS)  # the reference is computed once and cached
        print(f"the first time: {sum(counted):,} images through {args.features}, generated and real")
        for metrics in (METRICS, ["fid"]):
            counted.clear()
            start = time.perf_counter()
            scores = measure(args, Path(folder), metrics)
            seconds = time.perf_counter() - start
            print(
                f"{', '.join(metrics)}: {seconds:.1f} s, {args.count / seconds:.1f} images/s, "
                f"{sum(counted):,} images through {args.features}"
            )
            for part, spent in scores.parts.items():
                print(f"    {part:<18}{spent:8.2f} s {spent / seconds:6.0%}")


def make(args: Arguments, folder: Path) -> None:
    """Write the images of a synthetic benchmark, and as many samples."""
    captions = []
    for name, seed in (("images", 0), ("drawn", 1)):
        scenes = Scenes("benchmark", seed, args.resolution)
        place = folder / "benchmark" / name if name == "images" else folder / name
        place.mkdir(parents=True)
        for i in range(args.count):
            scene = scenes[i]
            Image.fromarray(np.ascontiguousarray(scene.image)).save(place / f"{i:05d}.png")
            if name == "drawn":
                captions.append(scene.prompt.caption)
    pd.DataFrame({"caption": captions}).to_parquet(folder / "benchmark" / "prompts.parquet")
    recipe = {"count": args.count, "captions_sha256": json_sha256(captions), "seed": 0}
    (folder / "drawn" / "sample.json").write_text(json.dumps(recipe))
    image_paths(folder / "drawn")


def measure(args: Arguments, folder: Path, metrics: list[str]) -> Scores:
    """Compute what src/scripts/evaluate/score.py does."""
    return Scores(
        ScoredImages(
            images=folder / "drawn",
            benchmark=folder / "benchmark",
            metrics=metrics,
            features=args.features,
            second_features="clip",
            feature_side=args.feature_side,
            resolution=args.resolution,
            clip=args.clip,
            resamples=args.resamples,
        )
    ).measure()


def count_calls(network: str) -> list[int]:
    """Count the images of each batch that passes through a network from now on."""
    counted, build = [], features.NETWORKS[network]

    def counting(device):
        extract = build(device)
        return lambda pixels: (counted.append(len(pixels)), extract(pixels))[1]

    features.NETWORKS[network] = counting
    return counted


if __name__ == "__main__":
    cli.run(main)
