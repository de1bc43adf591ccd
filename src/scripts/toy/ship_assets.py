"""Write the trained toy networks to the folder that the toy scale loads, in half precision, with their card."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.metrics.features import Features
from diffusion2gan.report.figures import save
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import quality
from diffusion2gan.toy.card import ASSETS, write_card
from diffusion2gan.toy.figures import losses_figure, sheet
from diffusion2gan.toy.openmoji import ATTRIBUTION


@dataclass
class Arguments:
    vae: Path
    teacher: Path
    clip: Path
    vgg_latent: Path
    vgg_pixel: Path
    vgg_latent_metrics: Path
    vgg_pixel_metrics: Path
    steps: int
    guidance: float
    out: Path
    count: int = 1000


def main(args: Arguments):
    args.out.mkdir(parents=True, exist_ok=True)
    Teacher(str(args.teacher), dtype=torch.float16).pipeline.save_pretrained(args.out / "teacher")
    shutil.copytree(args.clip, args.out / "clip", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.csv"))
    half(args.clip / "open_clip_model.safetensors", args.out / "clip" / "open_clip_model.safetensors")
    half(args.vgg_latent, args.out / "vgg-latent.safetensors")
    half(args.vgg_pixel, args.out / "vgg-pixel.safetensors")

    teacher, device = Teacher(str(args.out / "teacher")), torch.device("cpu")
    clip = CLIP(f"local-dir:{args.out / 'clip'}", device)
    features = Features("efficientnet-lite0", device)
    numbers = quality.measure(teacher, clip, features, args.count, args.steps, args.guidance)
    numbers |= quality.recognised(teacher, clip, args.steps, args.guidance)
    for name, metrics in (("latent", args.vgg_latent_metrics), ("pixel", args.vgg_pixel_metrics)):
        accuracy = json.loads(metrics.read_text())["metrics"]
        numbers |= {f"vgg_{name}_{key}": value for key, value in accuracy.items()}
    images = "![one sample of each emoji](samples.png)\n\n![training losses](losses.png)"
    write_card(args.out / "README.md", ASSETS, numbers, images)

    samples = sheet(quality.one_of_each(teacher, args.steps, args.guidance, 128), 8, 16)
    save(samples, args.out / "samples.png", "One sample of each emoji by the toy teacher", ATTRIBUTION, vector=False)
    histories = {folder.name: pd.read_csv(folder / "history.csv") for folder in (args.vae, args.teacher, args.clip)}
    save(losses_figure(histories), args.out / "losses.png", "Training losses of the toy assets", vector=False)


def half(source: Path, target: Path) -> None:
    """Copy a safetensors file with its metadata, floats in half precision."""
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in load_file(source).items()}
    save_file(tensors, target, metadata=metadata)


if __name__ == "__main__":
    cli.run(main)
