"""Prepare a benchmark: its fixed prompts, and the pictures that drawn ones are compared with.

COCO's pictures are linked, not copied. `openmoji` stands in for it at the small scales: captioned
scenes on grounds that no pair has. A benchmark with `references` is one without captions, as CIFAR-10.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from diffusion2gan.data import coco
from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png
from diffusion2gan.io import atomic
from diffusion2gan.pixel import cifar10
from diffusion2gan.progress import track
from diffusion2gan.provenance import sha256
from diffusion2gan.sampling import folder as samples
from diffusion2gan.study import cli
from diffusion2gan.toy import openmoji


@dataclass
class Arguments:
    source: str
    count: int
    resolution: int  # of pictures that are drawn; COCO's stay as they are
    out: Path
    references: int = 0  # pictures to compare with, where there are no captions
    seed: int = 0


def main(args: Arguments):
    images = args.out / "images"
    make = draw_openmoji if args.source == "openmoji" else link_coco
    make = without_captions if args.references else make
    prompts, recipe = make(args, images)
    recipe |= {
        "source": args.source,
        "seed": args.seed,
        "prompts": len(prompts),
        "pictures": len(samples.paths(images)),
        "captions_sha256": sha256(prompts["caption"].tolist()),
    }
    with atomic(args.out / "benchmark.json") as temporary:
        temporary.write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic(args.out / "prompts.parquet") as temporary:
        prompts.to_parquet(temporary, index=False)


def draw_openmoji(args: Arguments, images: Path) -> tuple[pd.DataFrame, dict]:
    """A scene for each prompt."""
    images.mkdir(parents=True, exist_ok=True)
    scenes = openmoji.Scenes("benchmark", args.seed, args.resolution)
    rows = []
    for i in track(range(args.count), "drawing the benchmark"):
        scene = scenes[i]
        save_png(scene.image, images / f"{i:05d}.png")
        rows.append({"prompt_id": i, "caption": scene.prompt.caption, **vars(scene.prompt)})
    return pd.DataFrame(rows), {"attribution": openmoji.ATTRIBUTION}


def link_coco(args: Arguments, images: Path) -> tuple[pd.DataFrame, dict]:
    """Chosen captions; every picture of the set, whether a caption of it was chosen or not."""
    folder = Path(args.source)
    pictures, captions = coco.read(folder)
    prompts = coco.choose(captions, args.count, args.seed)
    images.mkdir(parents=True, exist_ok=True)
    for old in images.iterdir():
        old.unlink()
    for name in pictures["file"]:
        (images / name).symlink_to((folder / name).resolve())
    return prompts, {"annotations_sha256": hashlib.sha256(coco.annotations(folder).read_bytes()).hexdigest()}


def without_captions(args: Arguments, images: Path) -> tuple[pd.DataFrame, dict]:
    """As many pictures as asked for, chosen at random where there are more; all prompts are empty."""
    pictures = cifar10.pictures(args.source, args.references, args.seed)
    if len(pictures) < args.references:
        raise UserError(f"{args.source} holds {len(pictures)} pictures, {args.references} `references` are asked for")
    chosen = np.random.default_rng(args.seed).permutation(len(pictures))[: args.references]
    images.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(track(pictures[np.sort(chosen)], "writing the benchmark")):
        save_png(picture, images / f"{i:05d}.png")
    recipe = {"pictures_sha256": hashlib.sha256(pictures.tobytes()).hexdigest()}
    recipe |= {"attribution": openmoji.ATTRIBUTION} if args.source == "openmoji" else {}
    return pd.DataFrame({"prompt_id": range(args.count), "caption": ""}), recipe


if __name__ == "__main__":
    cli.run(main)
