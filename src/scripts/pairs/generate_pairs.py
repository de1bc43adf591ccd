"""Solve the teacher's ODE for one shard of (noise, prompt, latent) pairs (Sec. 3.1)."""

from pathlib import Path

import torch
from pydantic import Field, NonNegativeInt

from diffusion2gan.errors import UserError
from diffusion2gan.io import check_disk, file_sha256
from diffusion2gan.pairs.prompts import read_prompts
from diffusion2gan.pairs.shards import NOISE, pair_seeds, unfinished, write_shard
from diffusion2gan.pairs.sizes import bytes_of, shard_range
from diffusion2gan.progress import track
from diffusion2gan.seeds import noise
from diffusion2gan.settings import Count, Seeded, SolvingSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import load_teacher

SOLVERS = {"ddim": "ddim, eta 0", "heun": "heun, edm noise levels"}


class Arguments(SolvingSettings, Seeded):
    teacher: str
    prompts: Path
    count: Count = Field(description="number of pairs in the dataset")
    shards: Count = Field(description="number of shards (files) of the dataset")
    shard: NonNegativeInt = Field(description="index of this shard, from 0")
    out: Path


def main(args: Arguments):
    captions = read_prompts(args.prompts)
    if args.solver not in SOLVERS:
        raise UserError(f"no solver of pairs '{args.solver}': use {' or '.join(SOLVERS)}")
    pairs = shard_range(args.shard, args.shards, args.count)
    if not pairs:
        raise UserError(f"shard {args.shard} of {args.shards} holds none of the {args.count} pairs: make fewer shards")
    cuda = torch.cuda.is_available()
    teacher = load_teacher(args.teacher, "cuda" if cuda else "cpu", torch.float16 if cuda else torch.float32)
    check_disk(args.out.parent, bytes_of(len(pairs), teacher.latent_shape), "this shard")

    recipe = {
        "teacher": args.teacher,
        "scheduler": SOLVERS[args.solver],
        "spacing": args.spacing,
        "steps": args.steps,
        "guidance": args.guidance,
        "precision": str(teacher.unet.dtype).removeprefix("torch."),
        "noise": NOISE,
        "seed": args.seed,
        "prompts_sha256": file_sha256(args.prompts),
    }
    batches = [pairs[i : i + args.batch_size] for i in range(0, len(pairs), args.batch_size)]
    settings = recipe | {"pairs": [pairs.start, pairs.stop], "batch_size": args.batch_size}
    with unfinished(args.out, settings, [len(batch) for batch in batches], teacher.latent_shape) as work:
        left = batches[len(work.batches) :]
        for batch in track(left, f"solving the ODE of shard {args.shard}"):
            z = noise(pair_seeds(batch, args.seed), teacher.latent_shape)
            texts = [captions[pair % len(captions)].as_py() for pair in batch]
            work.append(teacher.solve(z, texts, args.steps, args.guidance, args.solver, args.spacing))

        prompt_ids = [pair % len(captions) for pair in pairs]
        seeds = pair_seeds(pairs, args.seed)
        write_shard(args.out, torch.cat(work.batches), seeds, prompt_ids, pairs.start, recipe)


if __name__ == "__main__":
    cli.run(main)
