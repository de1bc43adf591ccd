"""Write the trained toy PixArt-α to the folder that the toy scale loads, in half precision, with its card."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.metrics.features import Features
from diffusion2gan.pipelines import load_pipeline
from diffusion2gan.report.figures import save
from diffusion2gan.sampling.baselines import PIPELINES, Baseline
from diffusion2gan.study import cli
from diffusion2gan.toy import quality
from diffusion2gan.toy.card import PIXART, write_card
from diffusion2gan.toy.figures import sheet
from diffusion2gan.toy.openmoji import ATTRIBUTION


@dataclass
class Arguments:
    pixart: Path
    clip: Path
    steps: int
    guidance: float
    feature_side: int
    out: Path
    count: int = 1000


def main(args: Arguments):
    shutil.rmtree(args.out, ignore_errors=True)
    load_pipeline(str(args.pixart), torch.float16, PIPELINES).save_pretrained(args.out)
    shutil.rmtree(args.out / "vae")
    os.symlink("../teacher/vae", args.out / "vae")  # that of both teachers

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip = CLIP(f"local-dir:{args.clip}", device)
    spaces = {"": Features("efficientnet-lite0", device, args.feature_side), "second_": clip.images}
    baseline = Baseline(str(args.out), device, steps=args.steps, guidance=args.guidance)
    samples = quality.ImageList(quality.sampled(baseline.sample, quality.captions(args.count)))
    numbers = {"scenes": args.count, "steps": args.steps, "guidance": args.guidance}
    numbers |= quality.compare({"pixart": samples}, clip, spaces)
    write_card(args.out / "README.md", PIXART, numbers, "![samples](samples.png)")
    description = "Samples of the toy PixArt-α"
    save(sheet(samples[:96], 8, 12), args.out / "samples.png", description, ATTRIBUTION, vector=False)


if __name__ == "__main__":
    cli.run(main)
