"""How good the toy networks are: the numbers on their cards, measured on scenes that no training and no table uses."""

from collections.abc import Iterator, Sequence
from statistics import mean

import numpy as np
import pandas as pd
import torch
from kornia.metrics import psnr

from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.metrics.clip_score import CLIP, clip_score
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.fid import fid
from diffusion2gan.metrics.zero_shot import ZeroShot
from diffusion2gan.pixel.model import PixelTeacher
from diffusion2gan.sampling.folder import batches_of_shard
from diffusion2gan.sampling.sampler import sample_images, teacher_sampler
from diffusion2gan.seeds import mix
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import EMOJI, GROUNDS, Prompt, Scene, Scenes
from diffusion2gan.toy.source import OpenMoji

BATCH = 64
PIXEL_FEATURES = 64  # side of the input of the feature network for 32 × 32 images
_UNSEEN = 0x43415244  # seed of scenes and noise that no training and no table uses


class ImageList(list):
    """Images uint8 (H, W, 3) in memory, with the interface that metrics need."""

    def batches(self, size: int) -> Iterator[list[np.ndarray]]:
        """The images in lists of `size`."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


def measure(teacher: Teacher, clip: CLIP, features: Features, count: int, steps: int, guidance: float) -> dict:
    """FID, CLIP score and top-1 accuracy of teacher, reconstructions and real images, on `count` unseen scenes.

    `reconstruction_fid` is the lowest FID that latents allow. `real_fid` compares two sets of real scenes: the bias of
    FID for few images.
    """
    real, other = scenes(_UNSEEN, count), scenes(_UNSEEN + 1, count)
    captions = [scene.prompt.caption for scene in real]
    images = {
        "real": ImageList(scene.image for scene in real),
        "reconstruction": ImageList(reconstruct(teacher, [scene.image for scene in real])),
        "teacher": ImageList(sample(teacher, captions, steps, guidance, "ddim")),
    }
    pairs = zip(images["real"], images["reconstruction"], strict=True)
    numbers = {
        "scenes": count,
        "ddim_steps": steps,
        "guidance": guidance,
        "psnr_db": mean(psnr(torch.tensor(x), torch.tensor(y), 255.0).item() for x, y in pairs),
    }
    reference = features(images["real"])
    text = clip.captions(captions)
    zero_shot, labels = ZeroShot(clip, OpenMoji().classes()), _labels([scene.prompt for scene in real])
    for name, each in images.items():
        compared = ImageList(scene.image for scene in other) if name == "real" else each
        numbers[f"{name}_fid"] = fid(features(compared), reference)
        vectors = clip.images(each)
        numbers[f"{name}_clip_score"] = clip_score(vectors, text)
        numbers |= {f"{name}_{key}": value for key, value in zero_shot.top1(vectors, labels).items()}
    return numbers


def recognised(teacher: Teacher, clip: CLIP, steps: int, guidance: float) -> dict:
    """How many emoji and backgrounds CLIP recognises in more than half of the teacher's samples of each."""
    prompts = [scene.prompt for scene in scenes(_UNSEEN + 2, 12 * len(EMOJI))]
    images = ImageList(sample(teacher, [prompt.caption for prompt in prompts], steps, guidance, "ddim"))
    named = ZeroShot(clip, OpenMoji().classes()).classify(clip.images(images))
    labels = _labels(prompts)
    counts = {}
    for label, known in (("emoji", EMOJI), ("ground", GROUNDS)):
        right = (named[label].numpy() == labels[label]).groupby(labels[label]).mean()
        counts[f"{label}_recognised"] = f"{int((right > 0.5).sum())} of {len(known)}"
    return counts


def measure_pixels(images: np.ndarray, features: Features) -> dict:
    """FID of a pixel teacher's samples against unseen scenes, and that of other real scenes as a lower bound."""
    side, source = images.shape[1], OpenMoji()
    reference, other = (ImageList(source.unconditional_images(len(images), side, _UNSEEN + i)) for i in (0, 1))
    of_reference = features(reference)
    compared = {"real": other, "teacher": ImageList(images)}
    return {"pictures": len(images)} | {
        f"{name}_fid": fid(features(each), of_reference) for name, each in compared.items()
    }


def sample(
    teacher: Teacher | PixelTeacher, captions: Sequence[str], steps: int, guidance: float, solver: str
) -> np.ndarray:
    """Samples uint8 (N, H, W, 3) of a teacher, from noise that no table uses."""
    seeds = [mix(_UNSEEN, i) for i in range(len(captions))]
    sampler = teacher_sampler(teacher, steps, guidance, solver)
    batches = batches_of_shard(len(seeds), BATCH)
    return np.stack([image for _, image in sample_images(sampler, seeds, captions, batches, "sampling")])


def one_of_each(teacher: Teacher, steps: int, guidance: float, count: int) -> np.ndarray:
    """A sample of each of the first `count` emoji, on all grounds in turn."""
    captions = [Prompt(emoji, emoji % len(GROUNDS)).caption for emoji in range(count)]
    return sample(teacher, captions, steps, guidance, "ddim")


def scenes(seed: int, count: int) -> list[Scene]:
    """The first scenes of a seed."""
    drawn = Scenes("all", seed, toy.IMAGE_SIZE)
    return [drawn[i] for i in range(count)]


def _labels(prompts: Sequence[Prompt]) -> pd.DataFrame:
    """The true `emoji` and `ground` of each prompt."""
    return pd.DataFrame([vars(prompt) for prompt in prompts])


@torch.no_grad()
def reconstruct(teacher: Teacher, images: Sequence[np.ndarray]) -> np.ndarray:
    """The images uint8 (N, H, W, 3), encoded and decoded by the teacher's autoencoder."""
    batches = to_tensor(images).split(BATCH)
    return np.concatenate([to_uint8(teacher.decode(teacher.encode_images(batch))) for batch in batches])
