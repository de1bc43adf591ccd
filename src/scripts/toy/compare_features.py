"""Which feature space of FID sees what people see: FID of real scenes that are degraded in known ways.

Every degradation has degrees from weak to strong. A feature space is useful if its FID rises with each, and if even the
weak ones stand out from the spread of FID between sets of real scenes. It is chosen before any student is looked at.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFilter

from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.io import atomic
from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.fid import Reference, fid
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy.openmoji import EMOJI, Scene, Scenes
from diffusion2gan.toy.quality import ImageList

SEED = 0x52554C45  # its scenes are in no training and no table
SIDES = 64, 128, 224  # of the images that EfficientNet sees
FLOORS = 4  # sets of real scenes: their FIDs show how much chance alone changes it
BATCH = 50


@dataclass
class Arguments:
    teacher: Path
    clip: Path
    out: Path
    count: int = 500


def main(args: Arguments):
    device, vae = torch.device("cpu"), Teacher(str(args.teacher)).vae
    spaces = {f"efficientnet-lite0 at {side}": Features("efficientnet-lite0", device, side) for side in SIDES}
    spaces["clip"] = CLIP(f"local-dir:{args.clip}", device).images
    reference = pictures(scenes(0, args.count))
    floors = [pictures(scenes(1 + number, args.count)) for number in range(FLOORS)]
    changed = {key: ImageList(change(args.count)) for key, change in degradations(vae).items()}

    lines = []
    for space, features in spaces.items():
        known = Reference(features(reference))
        real = [fid(features(floor), known) for floor in floors]
        lines.append((space, "none", 0, statistics.mean(real), 1.0, 0.0))
        for (kind, degree), images in changed.items():
            found = fid(features(images), known)
            apart = (found - statistics.mean(real)) / statistics.stdev(real)
            lines.append((space, kind, degree, found, found / statistics.mean(real), apart))
            print(*lines[-1], flush=True)
    columns = ["features", "degradation", "degree", "fid", "ratio", "deviations"]
    with atomic(args.out) as temporary:
        pd.DataFrame(lines, columns=columns).to_csv(temporary, index=False, float_format="%.4g")


def scenes(number: int, count: int) -> list[Scene]:
    """The first scenes of a sequence that depends on `number`."""
    drawn = Scenes("benchmark", SEED + number, 64)
    return [drawn[i] for i in range(count)]


def pictures(shown: Sequence[Scene]) -> ImageList:
    return ImageList(scene.image for scene in shown)


def degradations(vae: torch.nn.Module) -> dict[tuple[str, float], Callable[[int], list[np.ndarray]]]:
    """Degraded scenes by the kind and the degree of the degradation, as functions of the number of images."""

    def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[int], list[np.ndarray]]:
        return lambda count: [change(image) for image in pictures(scenes(9, count))]

    changes = {("blur, radius in pixels", r): each(lambda image, r=r: blurred(image, r)) for r in (0.4, 0.7, 1.0, 1.5)}
    changes |= {("noise, deviation of 255", d): each(lambda image, d=d: noisy(image, d)) for d in (4, 8, 16, 32)}
    changes |= {("red and blue swapped, share", s): lambda count, s=s: recoloured(count, s) for s in (0.1, 0.25, 0.5)}
    changes |= {("emoji left out, share", s): lambda count, s=s: without(count, s) for s in (0.25, 0.5, 0.75)}
    changes |= {("images repeated, times", n): lambda count, n=n: repeated(count, n) for n in (2, 4, 16)}
    changes |= {("autoencoder, passes", n): lambda count, n=n: encoded(vae, count, n) for n in (1, 2)}
    return changes


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    random = np.random.default_rng(image.sum(dtype=np.uint64))  # differs between images
    return (image + random.normal(0, deviation, image.shape)).round().clip(0, 255).astype(np.uint8)


def recoloured(count: int, share: float) -> list[np.ndarray]:
    """Scenes; in a share of them, red and blue are swapped."""
    images = pictures(scenes(9, count))
    return [image[..., ::-1].copy() if i < share * count else image for i, image in enumerate(images)]


def without(count: int, share: float) -> list[np.ndarray]:
    """Scenes that never show a share of all emoji."""
    drawn, kept = Scenes("benchmark", SEED + 9, 64), round((1 - share) * len(EMOJI))
    chosen, index = [], 0
    while len(chosen) < count:
        scene, index = drawn[index], index + 1
        if scene.prompt.emoji < kept:
            chosen.append(scene.image)
    return chosen


def repeated(count: int, times: int) -> list[np.ndarray]:
    """Fewer scenes, each `times` times."""
    return [image for image in pictures(scenes(9, -(-count // times))) for _ in range(times)][:count]


@torch.no_grad()
def encoded(vae: torch.nn.Module, count: int, passes: int) -> list[np.ndarray]:
    """Scenes that the autoencoder has encoded and decoded `passes` times."""
    images = to_tensor(pictures(scenes(9, count)))
    for _ in range(passes):
        images = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in images.split(BATCH)])
    return list(to_uint8(images))


if __name__ == "__main__":
    cli.run(main)
