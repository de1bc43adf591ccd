"""Train the transformer and the T5 encoder of a small PixArt-α on latents of captioned scenes; save the pipeline."""

from pathlib import Path

import torch

from diffusion2gan.settings import ToySceneSettings
from diffusion2gan.study import cli
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.denoising import PixArtTraining, encode_scenes
from diffusion2gan.toy.openmoji import Scenes, prompts
from diffusion2gan.toy.training import TrainingArguments, fit
from diffusion2gan.training import distributed


class Arguments(ToySceneSettings, TrainingArguments):
    vae: Path


def main(args: Arguments):
    torch.manual_seed(args.seed)
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    parts = {"transformer": toy.transformer(), "text_encoder": toy.t5_encoder(tokenizer)}
    parts = torch.nn.ModuleDict(parts).train()

    vae = toy.load_vae(args.vae).to(distributed.device())
    scenes = Scenes("all", args.seed, toy.IMAGE_SIZE)
    latents, tokens = encode_scenes(vae, tokenizer, scenes, args.scenes)
    empty = toy.tokenize(tokenizer, [""])
    training = PixArtTraining(latents, tokens, empty, parts, args.batch_size, args.learning_rate, args.seed)
    fit(training, args, ["scenes"])

    parts.eval()
    toy.pixart_pipeline(vae, tokenizer, parts["text_encoder"], parts["transformer"]).save_pretrained(args.out)


if __name__ == "__main__":
    cli.run(main)
