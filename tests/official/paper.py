"""The paper's scale with fewer and smaller pictures, batches and steps; all else is its own."""

from pathlib import Path

import yaml

from diffusion2gan.study.config import load, merge
from diffusion2gan.study.entries import STAGES
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]
PAIRS = 8
SMALLER = {
    "scale": "paper",
    "teachers": {
        "sd15": {"steps": {"ddim": 2, "dpm-solver": 2}, "latent": [4, 8, 8]},
        "sdxl": {"steps": {"ddim": 2}, "latent": [4, 16, 16]},
        "edm-cifar10": {"steps": {"heun": 2}, "lpips_side": 32},
    },
    "datasets": {
        **{
            name: {"pairs": PAIRS, "held_out": 2, "shards": 1}
            for name in ("sd-cfg-3", "sd-cfg-8", "sdxl-cfg-7", "cifar10-1000k")
        },
        **{f"cifar10-{count}k": {"pairs": PAIRS // 2} for count in (50, 100, 200, 500)},
    },
    "solving": {"batch_size": 4},
    "latentlpips": {
        "latents": {"size": 64, "train": 8, "val": 4, "shard": 4},
        "vgg": {"classes": 4, "width": 0.125, "iterations": 2, "batch_size": 4},
        "calibration": {
            "size": {"latent": 64}, "count": 4, "held_out": 6, "iterations": 2, "batch_size": 2,
        },
    },
    "regression": {
        "batch": {
            "base": {"size": 4}, "accumulated": {"size": 8}, "large": {"size": 4},
            "sdxl": {"size": 8},
        },
        "iterations": {"base": 1, "long": 1},
    },
    "gan": {
        "batch": {"base": {"size": 4}, "leading": {"size": 4}, "sdxl": {"size": 8}},
        "iterations": {"base": 1, "from-scratch": 1},
    },
    "dmd": {"batch": {"base": {"size": 4, "accumulation": 2}}, "iterations": {"base": 1}},
    "dmd2": {"batch": {"base": {"size": 4, "accumulation": 2}}, "iterations": {"base": 1}},
    "progressive": {
        "batch": {"base": {"size": 4, "accumulation": 1}, "sdxl": {"size": 4, "accumulation": 2}},
        "iterations": {"base": 1},
    },
    "ufogen": {"batch": {"base": {"size": 4, "accumulation": 2}}, "iterations": {"base": 1}},
    "lcm": {"batch": {"base": {"size": 4}}, "iterations": {"base": 1}},
    "add": {"batch": {"base": {"size": 4}, "sdxl": {"size": 8}}, "iterations": {"base": 1}},
    "lightning": {"batch": {"base": {"size": 4, "accumulation": 2}}, "iterations": {"base": 1}},
    "reflow": {"batch": {"base": {"size": 4}}, "iterations": {"base": 1}},
    "instaflow": {"batch": {"base": {"size": 4, "accumulation": 2}}, "iterations": {"base": 1}},
    "consistency": {"batch": {"base": {"size": 4}}, "iterations": {"base": 1, "equal": 1}},
    "models": {
        "pixart-alpha": {"resolution": 64},
        **{f"{name}-published": {"resolution": 64} for name in ("instaflow", "dmd2", "sdxl-turbo")},
        "sdxl-lightning-published": {"resolution": 128},
    },
    "benchmarks": {
        "coco2014": {"pictures": 4}, "coco2017": {"pictures": 4}, "cifar10": {"pictures": 4, "references": 8},
    },
    "evaluation": {"batch_size": 2},
}  # fmt: skip


def study() -> Study:
    """The study of config.yaml at this scale, on two GPUs of one node."""
    smaller = merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SMALLER)
    machines = {"nodes": 1, "gpus": 2}
    for stage in STAGES:
        for batch in smaller[stage]["batch"].values():
            batch |= machines
    smaller["models"]["pixart-alpha"]["steps"] = 2
    return Study(load(smaller, ROOT))
