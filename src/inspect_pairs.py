"""Look into a data set of pairs: counts, prompt lengths, statistics of the latents, and a decoded contact sheet.

python src/inspect_pairs.py work/toy/pairs/sd-cfg-3
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion2gan import cli
from diffusion2gan.figures import contact_sheet, save
from diffusion2gan.images import to_uint8
from diffusion2gan.pairs import PairDataset, shard_recipe, statistics
from diffusion2gan.teacher import load_teacher


@dataclass
class Arguments:
    dataset: Path
    out: Path | None = None
    sample: int = 2048
    pictures: int = 24
    seed: int = 0


@torch.no_grad()
def main(args: Arguments):
    pairs = PairDataset(args.dataset)
    recipe = shard_recipe(args.dataset / pairs.index["shard"][0])
    chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(args.seed))

    print(f"{args.dataset}: {len(pairs):,} pairs in {len(pairs.index)} shards, {len(pairs.captions):,} prompts")
    for name, value in recipe.items():
        print(f"  {name}: {value}")
    for name, numbers in statistics(pairs, chosen[: args.sample]).items():
        print(f"  {name}: " + ", ".join(f"{what} {number:.4g}" for what, number in numbers.items()))

    teacher = load_teacher(recipe["teacher"], "cuda" if torch.cuda.is_available() else "cpu")
    shown = pairs.batch(chosen[: args.pictures].sort().values)
    pictures = [to_uint8(teacher.decode(x[None].to(teacher.device)))[0] for x in shown.x]
    out = args.out or args.dataset / "contact-sheet.png"
    save(contact_sheet(pictures, shown.captions), out, f"pairs of {args.dataset.name}, decoded", vector=False)
    print(f"  contact sheet: {out}")


if __name__ == "__main__":
    cli.run(main)
