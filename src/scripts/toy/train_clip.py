"""Train the small CLIP of the toy scale; save it as a folder that open_clip loads."""

import torch
from safetensors.torch import save_file

from diffusion2gan.study import cli
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.contrastive import ContrastiveTraining
from diffusion2gan.toy.openmoji import Scenes, prompts
from diffusion2gan.toy.training import TrainingArguments, fit


def main(args: TrainingArguments):
    torch.manual_seed(args.seed)
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    clip = toy.clip(args.out, tokenizer)
    scenes = Scenes("all", args.seed, toy.PICTURE)
    training = ContrastiveTraining(clip, tokenizer, scenes, args.batch_size, args.learning_rate)
    fit(training, args, [])

    save_file(clip.state_dict(), args.out / "open_clip_model.safetensors")


if __name__ == "__main__":
    cli.run(main)
