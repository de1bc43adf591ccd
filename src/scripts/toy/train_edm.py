"""Train a small EDM denoiser on 32 × 32 images: the teacher of Table 6 at scales that do not use the published one."""

import torch

from diffusion2gan.images import to_tensor
from diffusion2gan.pixel.cifar10 import load_images
from diffusion2gan.settings import ToyEDMSettings
from diffusion2gan.study import cli
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.edm import EDMTraining
from diffusion2gan.toy.training import TrainingArguments, fit


class Arguments(ToyEDMSettings, TrainingArguments):
    """The settings of the denoiser, and its output folder."""


def main(args: Arguments):
    torch.manual_seed(args.seed)
    images = to_tensor(load_images(args.images, args.scenes, args.seed)).half()
    denoiser = toy.edm().train()
    training = EDMTraining(images, denoiser, args.batch_size, args.learning_rate, args.seed)
    fit(training, args, ["images", "scenes"])

    denoiser.eval().save_pretrained(args.out)


if __name__ == "__main__":
    cli.run(main)
