"""Train the toy VAE on scenes and collages; save it as a diffusers folder with its scaling factor."""

import numpy as np
import torch

from diffusion2gan.images import to_tensor
from diffusion2gan.settings import ToySceneSettings
from diffusion2gan.study import cli
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.autoencoder import AutoencoderTraining
from diffusion2gan.toy.collages import Collages
from diffusion2gan.toy.openmoji import Scenes
from diffusion2gan.toy.rendering import render
from diffusion2gan.toy.training import TrainingArguments, fit

SCENES_FOR_SCALE = 1000


class Arguments(ToySceneSettings, TrainingArguments):
    """The settings of the VAE, and its output folder."""


def main(args: Arguments):
    torch.manual_seed(args.seed)
    kinds = Scenes("all", args.seed, toy.IMAGE_SIZE), Collages(args.seed, toy.IMAGE_SIZE)
    # both kinds, because latents of collages train the VGG
    scenes, collages = (render(kind.image, args.scenes // 2) for kind in kinds)
    images = np.concatenate([scenes, collages])
    training = AutoencoderTraining(images, args.batch_size, args.learning_rate, args.seed)
    fit(training, args, ["scenes"])

    vae = training.modules["vae"].eval()
    with torch.no_grad():
        batches = to_tensor(scenes[:SCENES_FOR_SCALE]).split(100)
        latents = torch.cat([vae.encode(batch.to(vae.device)).latent_dist.mode() for batch in batches])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))  # latents of unit variance
    vae.save_pretrained(args.out)


if __name__ == "__main__":
    cli.run(main)
