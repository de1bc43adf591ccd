"""Train the U-Net and the text encoders of a toy teacher on latents of captioned scenes; save the pipeline."""

from pathlib import Path

import torch
from pydantic import Field

from diffusion2gan.settings import ToySceneSettings
from diffusion2gan.study import cli
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.denoising import DenoisingTraining, encode_scenes
from diffusion2gan.toy.openmoji import Scenes, prompts
from diffusion2gan.toy.training import TrainingArguments, fit
from diffusion2gan.training import distributed


class Arguments(ToySceneSettings, TrainingArguments):
    vae: Path
    init: Path | None = Field(None, description="a pipeline to start from, instead of random weights")
    xl: bool = Field(False, description="a small SDXL instead of a small Stable Diffusion, without --init")


def main(args: Arguments):
    torch.manual_seed(args.seed)
    if args.init:
        begun = toy.load_pipeline(args.init).components
        tokenizer = begun["tokenizer"]
        parts = {name: begun[name] for name in ("unet", "text_encoder", "text_encoder_2") if name in begun}
    else:
        tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
        parts = {"unet": toy.xl_unet() if args.xl else toy.unet(), "text_encoder": toy.text_encoder(tokenizer)}
        if args.xl:
            parts["text_encoder_2"] = toy.second_text_encoder(tokenizer)
    parts = torch.nn.ModuleDict(parts).train()

    vae = toy.load_vae(args.vae).to(distributed.device())
    scenes = Scenes("all", args.seed, toy.IMAGE_SIZE)
    latents, tokens = encode_scenes(vae, tokenizer, scenes, args.scenes)
    training = DenoisingTraining(
        latents, tokens, toy.tokenize(tokenizer, [""]), parts, args.batch_size, args.learning_rate, args.seed
    )
    fit(training, args, ["scenes", "init", "xl"])

    parts.eval()
    if "text_encoder_2" in parts:
        pipeline = toy.xl_pipeline(vae, tokenizer, (parts["text_encoder"], parts["text_encoder_2"]), parts["unet"])
    else:
        pipeline = toy.pipeline(vae, tokenizer, parts["text_encoder"], parts["unet"])
    pipeline.save_pretrained(args.out)


if __name__ == "__main__":
    cli.run(main)
