"""Fine-tune a small network with E-LatentLPIPS: it restores latents of blurred images. About a minute on two CPU cores.

    python examples/finetune_with_elatentlpips.py --out pictures

Run `make demo` first, which calibrates the metric, or only the part of it that does:

    snakemake --cores all --config scale=demo -- work/demo/latentlpips/latent-sd15/lpips.safetensors
"""

import diffusion2gan._torchvision  # noqa: F401 - before diffusers

import argparse
import copy
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.losses import ELatentLPIPS
from diffusion2gan.report import figures
from diffusion2gan.toy.openmoji import ATTRIBUTION, Scenes

ROOT = Path(__file__).parents[1]
METRIC = ROOT / "work/demo/latentlpips/latent-sd15/lpips.safetensors"
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, required=True, help="folder for the picture")
parser.add_argument("--metric", type=Path, default=METRIC, help="a calibrated metric of the toy latents")
parser.add_argument("--steps", type=int, default=300, help="steps of training, and of fine-tuning")
parser.add_argument("--scenes", type=int, default=1500, help="images to train on")
args = parser.parse_args()
if not args.metric.exists():
    sys.exit(f"error: no {args.metric}: run `make demo` first; --help names a shorter way")

# 1. The data: latents of blurred images, and of the same images before they were blurred.
vae = AutoencoderKL.from_pretrained(ROOT / "assets/toy/teacher", subfolder="vae").requires_grad_(False)


def latents(split, count):
    """Scaled latents (count, 4, 16, 16) of blurred images, and of the sharp ones."""
    scenes = Scenes(split, seed=0, size=64)
    sharp = to_tensor([scenes[i].image for i in range(count)])
    blurred = F.interpolate(F.avg_pool2d(sharp, 8), scale_factor=8, mode="bilinear")
    both = torch.cat([vae.encode(images).latent_dist.mode() for images in torch.cat([blurred, sharp]).split(100)])
    return (both * vae.config.scaling_factor).chunk(2)


torch.manual_seed(0)
inputs, targets = latents("pairs", args.scenes)
unseen, unseen_targets = latents("benchmark", 100)

# 2. The network, which adds to a latent what the blur took away, and the perceptual loss.
hidden = [layer for _ in range(3) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.SiLU())]
network = nn.Sequential(nn.Conv2d(4, 64, 3, padding=1), nn.SiLU(), *hidden, nn.Conv2d(64, 4, 3, padding=1))
perceptual = ELatentLPIPS.from_pretrained(args.metric)


def train(network, loss, name):
    """Train the network, print its errors on unseen images, and return the latents that it restores of them."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(args.steps + 1):
        if step % 100 == 0 or step == args.steps:
            with torch.no_grad():
                restored = unseen + network(unseen)
                distance = perceptual.metric(restored, unseen_targets).mean()  # LatentLPIPS, without transforms
            error = F.mse_loss(restored, unseen_targets)
            print(f"{name:13} step {step:3}: LatentLPIPS {distance:.3f}, MSE {error:.3f}", flush=True)
        if step < args.steps:
            rows = torch.randint(len(inputs), (32,))
            optimizer.zero_grad()
            loss(inputs[rows] + network(inputs[rows]), targets[rows]).mean().backward()
            optimizer.step()
    return restored


# 3. Train with the MSE; then fine-tune one copy with the MSE again, and one with E-LatentLPIPS.
before = train(network, F.mse_loss, "MSE")
longer = train(copy.deepcopy(network), F.mse_loss, "more MSE")
after = train(copy.deepcopy(network), perceptual, "E-LatentLPIPS")

# 4. The picture: unseen images, one per row.
columns = {"blurred": unseen, "MSE": before, "more MSE": longer, "E-LatentLPIPS": after, "sharp": unseen_targets}
shown = {name: to_uint8(vae.decode(each[:4] / vae.config.scaling_factor).sample) for name, each in columns.items()}
picture = args.out / "finetuned.png"
figures.save(figures.grid(shown, [""] * 4, ATTRIBUTION), picture, "Blurred latents, restored.", ATTRIBUTION, False)
print(f"The picture is {picture}")
