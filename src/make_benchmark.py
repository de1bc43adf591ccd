"""Draw the benchmark of the small scales: captioned OpenMoji scenes on grounds that no pair has."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan import cli
from diffusion2gan.datasets import openmoji
from diffusion2gan.images import save_png
from diffusion2gan.training.checkpoint import atomic
from diffusion2gan.training.progress import track


@dataclass
class Arguments:
    source: str
    count: int
    resolution: int
    out: Path
    seed: int = 0


def main(args: Arguments):
    scenes = openmoji.Scenes("benchmark", args.seed, args.resolution)
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in track(range(args.count), "drawing the benchmark"):
        scene = scenes[i]
        save_png(scene.image, args.out / "images" / f"{i:05d}.png")
        rows.append({"prompt_id": i, "caption": scene.prompt.caption, **vars(scene.prompt)})
    with atomic(args.out / "prompts.parquet") as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)


if __name__ == "__main__":
    cli.run(main)
