"""The ensemble of E-LatentLPIPS: one latent under random transforms of each preset, decoded."""

from pathlib import Path

import torch

from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.data.sources import find_source
from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.losses.ensemble import PRESETS, Ensemble
from diffusion2gan.report import figures
from diffusion2gan.settings import Count, Seeded
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher


class Arguments(Seeded):
    teacher: str
    images: str
    draws: Count = 4
    out: Path


def main(args: Arguments):
    teacher = Teacher(args.teacher)
    image, _ = LabelledImages(args.images, "val", teacher.image_size, args.seed)[0]
    latents = teacher.encode_images(to_tensor([image])).expand(args.draws + 1, -1, -1, -1)
    rows = []
    for preset in PRESETS:
        # the same random numbers in every row, so that each row adds its own transforms to those of the row above
        transform = Ensemble(preset).draw(args.draws, latents.shape[-1], torch.Generator().manual_seed(args.seed))
        with torch.no_grad():
            rows.append(to_uint8(teacher.decode(torch.cat([latents[:1], transform(latents[1:])]))))
    columns = dict(zip(["original", *map(str, range(1, args.draws + 1))], zip(*rows, strict=True), strict=True))

    source = find_source(args.images)
    credit = source.attribution if source else ""
    figure = figures.grid(columns, PRESETS, credit)
    description = f"One latent under random transforms of {', '.join(PRESETS)}, decoded."
    figures.save(figure, args.out, description, credit)


if __name__ == "__main__":
    cli.run(main)
