"""Measure the pictures of a run against a benchmark."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch

from diffusion2gan import cli, provenance, samples
from diffusion2gan.errors import UserError
from diffusion2gan.metrics.clip_score import CLIP, clip_score, scene_top1
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.fid import fid
from diffusion2gan.metrics.precision_recall import precision_recall
from diffusion2gan.metrics.speed import parameters, seconds
from diffusion2gan.noise import noise
from diffusion2gan.samples import Pictures
from diffusion2gan.training.checkpoint import atomic

METRICS = ("fid", "clip_score", "precision", "recall")


@dataclass
class Arguments:
    images: Path
    benchmark: Path
    run: str
    scale: str
    out: Path
    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    features: str = "inception"
    feature_side: int = 224
    resolution: int = 256
    resize_filter: str = "lanczos"
    clip: str = "ViT-g-14/laion2b_s12b_b42k"
    clip_prefix: str = ""
    model: str = ""
    seed: int = 0


def main(args: Arguments):
    if unknown := set(args.metrics) - set(METRICS):
        raise UserError(f"no metric '{min(unknown)}': use {', '.join(METRICS)}")
    start = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pictures = Pictures(samples.paths(args.images), args.resolution, args.resize_filter)
    captions = pd.read_parquet(args.benchmark / "prompts.parquet")["caption"].tolist()[: len(pictures)]
    if len(captions) < len(pictures):
        raise UserError(f"{args.images} holds {len(pictures)} pictures, {args.benchmark} only {len(captions)} prompts")
    recipe = {**pictures.recipe, "count": len(pictures)}
    values, speed = {}, None

    if {"fid", "precision", "recall"} & set(args.metrics):
        real = Pictures(samples.paths(args.benchmark / "images"), args.resolution, args.resize_filter)
        features = Features(args.features, device, args.feature_side)
        reference = features.cached(real, args.benchmark.with_name(f"{args.benchmark.name}.features"))
        drawn = features(pictures)
        recipe |= {**features.recipe, "reference_count": len(real)}
        if "fid" in args.metrics:
            values["fid"] = fid(drawn, reference)
        if {"precision", "recall"} & set(args.metrics):
            both = dict(zip(("precision", "recall"), precision_recall(drawn, reference, device=device), strict=True))
            values |= {name: both[name] for name in both if name in args.metrics}
    if "clip_score" in args.metrics:
        clip = CLIP(args.clip, device, args.clip_prefix)
        vectors = clip.pictures(pictures)
        recipe |= clip.recipe
        values |= {"clip_score": clip_score(vectors, clip.captions(captions)), **scene_top1(clip, vectors, captions)}
    if args.model:
        values_of_model, speed = _size_and_speed(args, captions[0], device)
        values |= values_of_model

    sample = samples.recipe(args.images)
    result = {
        **cli.settings_of(args, ["run", "scale", "seed", "features"]),
        "benchmark": args.benchmark.name,
        "metrics": values,
        "count": len(pictures),
        "recipe": recipe,
        "sample": sample,
        "speed": speed,
        **provenance.record({"recipe": recipe, "sample": sample, "metrics": sorted(values)}, device),
        "seconds": round(time.monotonic() - start, 3),
    }
    with atomic(args.out) as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@torch.no_grad()
def _size_and_speed(args: Arguments, caption: str, device: torch.device) -> tuple[dict, dict]:
    """Weights of the model's U-Net, and seconds of one picture, drawn as those of `images` were."""
    from diffusion2gan.teacher import Teacher  # diffusers starts slowly, and most rows do without

    drawn = samples.recipe(args.images)
    if drawn is None:
        raise UserError(f"{args.images} has no sample.json that says how to time {args.model}: draw it with sample.py")
    model = Teacher(args.model, device, getattr(torch, drawn["precision"]))
    z = noise(samples.noise_seeds(args.seed, [0]), model.latent_shape)

    def draw():
        x = model.solve(z, [caption], drawn["steps"], drawn["guidance"], drawn["scheduler"], drawn["spacing"])
        return model.decode(x).cpu()

    timing = seconds(draw, device)
    size = {"params_billion": parameters(model.unet) / 1e9, "steps": drawn["steps"]}
    return {**size, "inference_seconds": timing.median}, asdict(timing)


if __name__ == "__main__":
    cli.run(main)
