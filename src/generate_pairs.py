"""Solve the teacher's ODE for one shard of (noise, prompt, latent) pairs (Sec. 3.1)."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from diffusion2gan import cli
from diffusion2gan.pairs import check_disk, pair_seeds, sha256, shard_range, write_shard
from diffusion2gan.teacher import Teacher, noise
from diffusion2gan.training.progress import track


@dataclass
class Arguments:
    teacher: str
    prompts: Path
    shard: int
    shards: int
    count: int
    steps: int
    guidance: float
    batch_size: int
    out: Path
    seed: int = 0


def main(args: Arguments):
    cuda = torch.cuda.is_available()
    teacher = Teacher(args.teacher, "cuda" if cuda else "cpu", torch.float16 if cuda else torch.float32)
    captions = pd.read_parquet(args.prompts)["caption"]
    pairs = shard_range(args.shard, args.shards, args.count)
    check_disk(args.out.parent, len(pairs), teacher.latent_shape)

    latents = []
    for first in track(range(pairs.start, pairs.stop, args.batch_size), f"solving the ODE of shard {args.shard}"):
        batch = range(first, min(first + args.batch_size, pairs.stop))
        z = noise(pair_seeds(batch, args.seed), teacher.latent_shape)
        texts = [captions[pair % len(captions)] for pair in batch]
        latents.append(teacher.solve(z, texts, args.steps, args.guidance).cpu())

    prompt_ids = [pair % len(captions) for pair in pairs]
    recipe = {
        "teacher": args.teacher,
        "scheduler": "ddim, eta 0",
        "steps": str(args.steps),
        "guidance": str(args.guidance),
        "noise": "numpy default_rng(seed).standard_normal, float32",
        "prompts_sha256": sha256(args.prompts),
    }
    write_shard(args.out, torch.cat(latents), pair_seeds(pairs, args.seed), prompt_ids, recipe)


if __name__ == "__main__":
    cli.run(main)
