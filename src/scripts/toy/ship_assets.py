"""Write the trained toy networks to the folder that the toy scale loads, in half precision, with their card."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.metrics.features import Features
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.report.figures import save
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import quality
from diffusion2gan.toy.card import ASSETS, write_card
from diffusion2gan.toy.figures import sheet
from diffusion2gan.toy.openmoji import ATTRIBUTION


@dataclass
class Arguments:
    teacher: Path
    teacher_xl: Path
    clip: Path
    vgg_latent: Path
    vgg_pixel: Path
    vgg_latent_metrics: Path
    vgg_pixel_metrics: Path
    steps: int
    guidance: float
    guidance_xl: float
    feature_side: int
    out: Path
    count: int = 1000


def main(args: Arguments):
    args.out.mkdir(parents=True, exist_ok=True)
    for folder, name in ((args.teacher, "teacher"), (args.teacher_xl, "teacher-xl")):
        shutil.rmtree(args.out / name, ignore_errors=True)
        Teacher(str(folder), dtype=torch.float16).pipeline.save_pretrained(args.out / name)
    shutil.rmtree(args.out / "teacher-xl" / "vae")
    os.symlink("../teacher/vae", args.out / "teacher-xl" / "vae")  # both teachers have the same
    shutil.copytree(args.clip, args.out / "clip", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.csv"))
    half(args.clip / "open_clip_model.safetensors", args.out / "clip" / "open_clip_model.safetensors")
    for trained, name in ((args.vgg_latent, "vgg-latent"), (args.vgg_pixel, "vgg-pixel")):
        VGG.load(trained).eval().folded().half().save(args.out / f"{name}.safetensors")  # without the classifier

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip = CLIP(f"local-dir:{args.out / 'clip'}", device)
    spaces = {"": Features("efficientnet-lite0", device, args.feature_side), "second_": clip.images}
    teachers = {
        "teacher": (Teacher(str(args.out / "teacher"), device), args.guidance),
        "teacher_xl": (Teacher(str(args.out / "teacher-xl"), device), args.guidance_xl),
    }
    numbers, samples = quality.measure(teachers, clip, spaces, args.count, args.steps)
    for name, metrics in (("latent", args.vgg_latent_metrics), ("pixel", args.vgg_pixel_metrics)):
        accuracy = json.loads(metrics.read_text())["metrics"]
        numbers |= {f"vgg_{name}_{key}": value for key, value in accuracy.items()}
    write_card(args.out / "README.md", ASSETS, numbers, "![samples of the toy teachers](samples.png)")
    shown = sheet(samples["teacher"][:48] + samples["teacher_xl"][:48], 8, 12)
    description = "Samples of the toy teachers: Stable Diffusion above, SDXL below"
    save(shown, args.out / "samples.png", description, ATTRIBUTION, vector=False)


def half(source: Path, target: Path) -> None:
    """Copy a safetensors file with its metadata, floats in half precision."""
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in load_file(source).items()}
    save_file(tensors, target, metadata=metadata)


if __name__ == "__main__":
    cli.run(main)
