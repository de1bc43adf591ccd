"""Encode one shard of labelled images with the teacher's VAE: the training data of the latent VGG.

Latents are samples of the VAE's posterior, like those that the teacher's U-Net was trained on and generates.     # ours
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.finite import check_finite
from diffusion2gan.images import to_tensor
from diffusion2gan.io import atomic
from diffusion2gan.pairs.sizes import shard_range
from diffusion2gan.progress import track
from diffusion2gan.seeds import mix, noise
from diffusion2gan.settings import ENCODED
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher


@dataclass
class Arguments:
    teacher: str
    images: str
    split: str
    count: int
    size: int
    out: Path
    shard: int = 0
    shards: int = 1
    seed: int = 0
    batch_size: int = ENCODED


def main(args: Arguments):
    teacher = Teacher(args.teacher, "cuda" if torch.cuda.is_available() else "cpu")
    teacher.drop_unet()
    images = LabelledImages(args.images, args.split, args.size, args.seed)
    shape = (teacher.latent_shape[0], *[args.size // teacher.downsampling] * 2)

    chosen = shard_range(args.shard, args.shards, args.count)
    latents, labels = [], []
    for first in track(range(0, len(chosen), args.batch_size), "encoding latents"):
        batch = chosen[first : first + args.batch_size]
        examples = [images[i] for i in batch]
        posterior_noise = noise([mix(images.seed, i) for i in batch], shape)
        encoded = teacher.encode_images(to_tensor([image for image, _ in examples]), posterior_noise)
        latents.append(check_finite(encoded.half().cpu(), "in half precision, the latent of image", batch))
        labels += [label for _, label in examples]

    with atomic(args.out) as temporary:
        tensors = {"latents": torch.cat(latents).contiguous(), "labels": torch.tensor(labels)}
        save_file(tensors, temporary, metadata={"classes": json.dumps(list(images.classes))})


if __name__ == "__main__":
    cli.run(main)
