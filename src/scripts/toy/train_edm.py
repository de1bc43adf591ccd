"""Train a small EDM denoiser on pictures of 32 × 32, the teacher of Table 6 where there is no published one."""

from pathlib import Path

import torch

from diffusion2gan.images import to_tensor
from diffusion2gan.pixel import cifar10
from diffusion2gan.settings import ToyEDMSettings
from diffusion2gan.study import cli
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.edm import EDMTraining
from diffusion2gan.training.loop import Schedule, train


class Arguments(ToyEDMSettings):
    checkpoints: Path
    out: Path


def main(args: Arguments):
    torch.manual_seed(args.seed)
    pictures = to_tensor(cifar10.pictures(args.images, args.scenes, args.seed)).half()
    denoiser = toy.edm().train()
    training = EDMTraining(pictures, denoiser, args.batch_size, args.learning_rate, args.seed)
    settings = cli.settings_of(args, ["images", "scenes", "batch_size", "learning_rate"])
    schedule = Schedule(args.iterations, warmup=200, decay="cosine")
    history = train(training, schedule, args.checkpoints, settings, args.seed, ema_decay=0.999)

    denoiser.eval().save_pretrained(args.out)
    history.to_csv(args.out / "history.csv", index=False)


if __name__ == "__main__":
    cli.run(main)
