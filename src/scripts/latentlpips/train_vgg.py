"""Train a VGG to classify images or latents: the trunk of LPIPS or LatentLPIPS."""

import time
from pathlib import Path

import torch

from diffusion2gan import provenance
from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.data.latents import LabelledLatents
from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic, write_json
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import Seeded, Space, VGGSettings
from diffusion2gan.study import cli
from diffusion2gan.training import distributed
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.lpips.classification import (
    ImageBatches,
    LatentBatches,
    VGGTraining,
    accuracy,
    held_out_images,
)

EVALUATION_BATCH = 256


class Arguments(VGGSettings, Seeded):
    space: Space
    data: list[str]
    validation: list[str]
    checkpoints: Path
    out: Path
    metrics: Path


def main(args: Arguments):
    start = time.monotonic()
    torch.manual_seed(args.seed)
    device = distributed.device()
    (rows,) = distributed.parts(args.batch_size)
    if args.space == "latent":
        latents, unseen = LabelledLatents(args.data, args.classes), LabelledLatents(args.validation, args.classes)
        if unseen.names != latents.names:
            raise UserError(f"'{args.validation[0]}' numbers other classes than '{args.data[0]}': encode both again")
        batches = LatentBatches(latents, latents.labels, args.batch_size, args.seed, rows)
        channels = latents.shape[1]
    else:
        pictures = read_pictures(args.data[0], "train", args)
        batches = ImageBatches(pictures, args.batch_size, args.seed, args.workers, rows)
        channels = 3

    network = VGG(args.space, channels, args.classes, args.width).to(device)
    training = VGGTraining(network, batches, args)
    names = ["space", "classes", "width", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "autocast"]
    schedule = Schedule(args.iterations, args.warmup, decay="steps")
    history = train(training, schedule, args.checkpoints, cli.settings_of(args, names), args.seed)
    if not distributed.is_main():
        return

    if args.space == "latent":
        parts = torch.arange(len(unseen)).split(EVALUATION_BATCH)
        held_out = ((unseen[part].float(), unseen.labels[part]) for part in parts)
    else:
        pictures = read_pictures(args.validation[0], "val", args)
        held_out = held_out_images(pictures, args.validation_count, EVALUATION_BATCH, args.seed, args.workers)
    scores = accuracy(network, held_out)
    network.save(args.out)
    with atomic(args.out.with_suffix(".csv")) as temporary:
        history.to_csv(temporary, index=False)
    result = {
        "count": scores.pop("count"),
        "metrics": scores,
        "seed": args.seed,
        "seconds": time.monotonic() - start,
        **provenance.record(cli.settings_of(args, [*names, "iterations", "seed"]), device),
    }
    write_json(args.metrics, result)


def read_pictures(source: str, split: str, args: Arguments) -> LabelledImages:
    """The labelled images of a split. Raises UserError unless they have --classes classes."""
    pictures = LabelledImages(source, split, args.size, args.seed)
    if len(pictures.classes) != args.classes:
        raise UserError(
            f"{source} has {len(pictures.classes)} classes and --classes is {args.classes}: make them agree"
        )
    return pictures


if __name__ == "__main__":
    cli.run(main)
