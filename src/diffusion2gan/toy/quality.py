"""How good the toy networks are: the numbers on their cards, measured on scenes that no training and no table uses."""

from collections.abc import Callable, Iterator, Sequence
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
from diffusion2gan.sampling.sampler import Sampler, sample_images, teacher_sampler
from diffusion2gan.seeds import mix
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import Prompt, Scene, Scenes
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


def measure(
    teachers: dict[str, tuple[Teacher, float]], clip: CLIP, spaces: dict[str, Callable], count: int, steps: int
) -> tuple[dict, dict[str, ImageList]]:
    """FID, CLIP score and top-1 accuracy of real images, their reconstructions and teachers' samples; and the images.

    `teachers` are pipelines with one VAE, and their guidance. Each image shows the caption of one of `count` unseen
    scenes, and FID compares with as many others, in each of the feature `spaces`. The FID of real images is the bias of
    FID for so few images; that of reconstructions is the lowest that latents allow.
    """
    drawn, (first, _) = scenes(_UNSEEN, count), next(iter(teachers.values()))
    images = {"real": ImageList(scene.image for scene in drawn)}
    images["reconstruction"] = ImageList(reconstruct(first, images["real"]))
    for name, (teacher, guidance) in teachers.items():
        images[name] = ImageList(sample(teacher, captions(count), steps, guidance, "ddim"))
    pairs = zip(images["real"], images["reconstruction"], strict=True)
    numbers = {
        "scenes": count,
        "ddim_steps": steps,
        "psnr_db": mean(psnr(torch.tensor(x), torch.tensor(y), 255.0).item() for x, y in pairs),
    }
    return numbers | compare(images, clip, spaces), images


def compare(images: dict[str, ImageList], clip: CLIP, spaces: dict[str, Callable]) -> dict:
    """FID, CLIP score and top-1 accuracy of images by name; image i of each shows the caption of unseen scene i."""
    count = len(next(iter(images.values())))
    shown, other = prompts(count), scenes(_UNSEEN + 1, count)
    references = {space: features(ImageList(scene.image for scene in other)) for space, features in spaces.items()}
    text, zero_shot = clip.captions([prompt.caption for prompt in shown]), ZeroShot(clip, OpenMoji().classes())
    labels, numbers = pd.DataFrame([vars(prompt) for prompt in shown]), {}
    for name, each in images.items():
        numbers |= {f"{name}_{space}fid": fid(spaces[space](each), known) for space, known in references.items()}
        vectors = clip.images(each)
        numbers[f"{name}_clip_score"] = clip_score(vectors, text)
        numbers |= {f"{name}_{key}": value for key, value in zero_shot.top1(vectors, labels).items()}
    return numbers


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
    return sampled(teacher_sampler(teacher, steps, guidance, solver), captions)


def sampled(sampler: Sampler, captions: Sequence[str]) -> np.ndarray:
    """Samples uint8 (N, H, W, 3) of a sampler, from noise that no table uses."""
    seeds = [mix(_UNSEEN, i) for i in range(len(captions))]
    batches = batches_of_shard(len(seeds), BATCH)
    return np.stack([image for _, image in sample_images(sampler, seeds, captions, batches, "sampling")])


def captions(count: int) -> list[str]:
    """The captions of the first unseen scenes."""
    return [prompt.caption for prompt in prompts(count)]


def prompts(count: int) -> list[Prompt]:
    """The prompts of the first unseen scenes, which are not drawn for them."""
    unseen = Scenes("all", _UNSEEN, toy.IMAGE_SIZE)
    return [unseen.prompt(i) for i in range(count)]


def scenes(seed: int, count: int) -> list[Scene]:
    """The first scenes of a seed."""
    drawn = Scenes("all", seed, toy.IMAGE_SIZE)
    return [drawn[i] for i in range(count)]


@torch.no_grad()
def reconstruct(teacher: Teacher, images: Sequence[np.ndarray]) -> np.ndarray:
    """The images uint8 (N, H, W, 3), encoded and decoded by the teacher's autoencoder."""
    batches = to_tensor(images).split(BATCH)
    return np.concatenate([to_uint8(teacher.decode(teacher.encode_images(batch))) for batch in batches])
