"""Train the toy codec on OpenMoji scenes; save it as a diffusers folder with its scaling factor."""

from pathlib import Path

import torch

from diffusion2gan.images import to_tensor
from diffusion2gan.settings import ToyVAESettings
from diffusion2gan.study import cli
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.autoencoder import AutoencoderTraining
from diffusion2gan.toy.openmoji import Scenes
from diffusion2gan.training.loop import Schedule, train

SCENES_FOR_SCALE = 1000


class Arguments(ToyVAESettings):
    checkpoints: Path
    out: Path


def main(args: Arguments):
    torch.manual_seed(args.seed)
    scenes = Scenes("all", args.seed, toy.PICTURE)
    training = AutoencoderTraining(scenes, args.batch_size, args.learning_rate, args.autocast)
    settings = cli.settings_of(args, ["batch_size", "learning_rate", "autocast"])
    schedule = Schedule(args.iterations, warmup=200, decay="cosine")
    history = train(training, schedule, args.checkpoints, settings, args.seed, ema_decay=0.999)

    vae = training.modules["vae"].eval()
    with torch.no_grad():
        images = to_tensor([scenes[i].image for i in range(SCENES_FOR_SCALE)])
        latents = torch.cat([vae.encode(batch).latent_dist.mode() for batch in images.split(100)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))  # latents of unit variance
    vae.save_pretrained(args.out)
    history.to_csv(args.out / "history.csv", index=False)


if __name__ == "__main__":
    cli.run(main)
