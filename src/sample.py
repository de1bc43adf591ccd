"""Draw the pictures of a benchmark with a teacher or a student, picture i from noise (seed, i)."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from diffusion2gan import cli, samples
from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png, to_uint8
from diffusion2gan.noise import noise
from diffusion2gan.provenance import sha256
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.progress import track


@dataclass
class Arguments:
    model: str
    prompts: Path
    count: int
    out: Path
    steps: int = 1
    guidance: float = 0.0
    scheduler: str = "student"
    spacing: str = "own"
    batch_size: int = 16
    seed: int = 0


@torch.no_grad()
def main(args: Arguments):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # One step turns ε into x₀, which amplifies rounding fifteenfold: a student never runs in half precision.
    half = device.type == "cuda" and args.scheduler != "student"
    model = Teacher(args.model, device, torch.float16 if half else torch.float32)
    captions = pd.read_parquet(args.prompts)["caption"].tolist()[: args.count]
    if len(captions) < args.count:
        raise UserError(f"{args.prompts} holds {len(captions)} prompts, {args.count} pictures were asked for")

    recipe = {
        **cli.settings_of(args, ["model", "count", "steps", "guidance", "scheduler", "spacing", "batch_size", "seed"]),
        "precision": str(model.unet.dtype).removeprefix("torch."),
        "captions_sha256": sha256(captions),
    }
    samples.create(args.out, recipe)
    for first in track(range(0, args.count, args.batch_size), f"drawing with {args.model}"):
        batch = range(first, min(first + args.batch_size, args.count))
        z = noise(samples.noise_seeds(args.seed, batch), model.latent_shape)
        texts = [captions[i] for i in batch]
        x = model.solve(z, texts, args.steps, args.guidance, args.scheduler, args.spacing)
        for i, picture in zip(batch, to_uint8(model.decode(x)), strict=True):
            save_png(picture, args.out / f"{i:05d}.png")


if __name__ == "__main__":
    cli.run(main)
