"""Calibrate the heads of LPIPS on judgements of similarity, and measure the metric on held-out ones (2AFC)."""

import time
from pathlib import Path

import torch

from diffusion2gan import provenance
from diffusion2gan.data.bapps import judgements
from diffusion2gan.data.sources import find_source
from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic, write_json
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import CalibrationSettings, Count, Seeded, Space
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.lpips.calibration import CalibrationTraining, encode, two_afc


class Arguments(CalibrationSettings, Seeded):
    trunk: Path
    space: Space
    judgements: str
    size: Count = 64
    checkpoints: Path
    out: Path
    metrics: Path
    teacher: str = ""


def main(args: Arguments):
    start = time.monotonic()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trunk = VGG.load(args.trunk).to(device)
    if trunk.space != args.space:
        raise UserError(f"{args.trunk} was trained on {trunk.space}s and --space is {args.space}: make them agree")
    if args.space == "latent" and not args.teacher:
        raise UserError("judgements are encoded by a teacher's VAE: give the pipeline as --teacher")
    to_space = torch.nn.Identity()
    if args.space == "latent":
        teacher = Teacher(args.teacher, device)
        teacher.drop_unet()
        to_space = teacher.encode_images
    triplets, held_out = (
        encode(judgements(args.judgements, split, args.seed, args.size), count, args.seed, to_space)
        for split, count in (("train", args.count), ("val", args.held_out))
    )

    training = CalibrationTraining(trunk, triplets, args, args.seed)
    names = ["space", "judgements", "count", "size", "batch_size", "learning_rate"]
    schedule = Schedule(args.iterations, decay="linear")
    history = train(training, schedule, args.checkpoints, cli.settings_of(args, names), args.seed)

    metric = training.metric()
    metric.save(args.out)
    with atomic(args.out.with_suffix(".csv")) as temporary:
        history.to_csv(temporary, index=False)
    source = find_source(args.judgements)
    result = {
        "judgements": "synthetic" if source and source.synthetic_judgements else "bapps",
        "count": len(held_out),
        "metrics": two_afc(metric, held_out, device),
        "seed": args.seed,
        "seconds": time.monotonic() - start,
        **provenance.record(cli.settings_of(args, [*names, "held_out", "iterations", "seed"]), device),
    }
    write_json(args.metrics, result)


if __name__ == "__main__":
    cli.run(main)
