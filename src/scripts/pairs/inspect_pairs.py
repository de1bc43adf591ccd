"""Inspect a dataset of pairs: counts, prompt lengths, statistics of the latents, and a decoded contact sheet.

python src/scripts/pairs/inspect_pairs.py work/toy/pairs/sd-cfg-3
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion2gan.images import to_uint8
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.pairs.shards import shard_recipe
from diffusion2gan.report.figures import contact_sheet, save
from diffusion2gan.study import cli
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
    numbers = chosen[: args.pictures].sort().values.tolist()
    shown = pairs.batch(numbers)
    images = [
        to_uint8(teacher.decode(x[None].to(teacher.device)), "the decoded pair", [number])[0]
        for number, x in zip(numbers, shown.x, strict=True)
    ]
    out = args.out or args.dataset / "contact-sheet.png"
    save(contact_sheet(images, shown.captions), out, f"pairs of {args.dataset.name}, decoded", vector=False)
    print(f"  contact sheet: {out}")


def statistics(pairs: PairDataset, indices: torch.Tensor) -> dict[str, dict[str, float]]:
    """Statistics of the pairs at `indices` (N,): of each channel of x, of z, and of the prompts' lengths.

    `correlation` is between z and x, element by element: a solution of the ODE correlates with its noise, shuffled
    pairs do not.
    """
    parts = [pairs.batch(part) for part in indices.split(256)]
    x, z = (torch.cat([getattr(part, name) for part in parts]).transpose(0, 1).flatten(1) for name in "xz")
    lengths = torch.tensor([len(caption) for part in parts for caption in part.captions], dtype=torch.float32)
    both = torch.stack([x.double(), z.double()])
    centred = (both - both.mean(2, keepdim=True)) / both.std(2, keepdim=True)
    correlation = centred.prod(0).mean(1)
    found = {
        f"latent channel {i}": {
            "mean": x[i].mean().item(),
            "deviation": x[i].std().item(),
            "least": x[i].min().item(),
            "most": x[i].max().item(),
            "correlation": correlation[i].item(),
        }
        for i in range(len(x))
    }
    found["noise"] = {"mean": z.mean().item(), "deviation": z.std().item()}
    spread = zip(("shortest", "median", "longest"), lengths.quantile(torch.tensor([0.0, 0.5, 1.0])), strict=True)
    return found | {"letters of a prompt": {name: value.item() for name, value in spread}}


if __name__ == "__main__":
    cli.run(main)
