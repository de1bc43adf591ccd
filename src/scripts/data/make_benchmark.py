"""Prepare a benchmark: its fixed prompts and its reference images.

COCO's images are linked, and copied only where the disk has no links. A registered source replaces COCO at the small
scales; `benchmark.json` then also holds the classes that the labels of its prompts refer to. A benchmark with
`references` has no captions, like CIFAR-10.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from diffusion2gan.data.coco import annotations, choose_prompts, read_coco
from diffusion2gan.data.sources import find_source
from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png
from diffusion2gan.io import atomic, file_sha256, where_supported, write_json
from diffusion2gan.pixel.cifar10 import load_images
from diffusion2gan.progress import track
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import image_paths
from diffusion2gan.study import cli


@dataclass
class Arguments:
    source: str
    count: int
    resolution: int  # of a registered source's images; COCO's keep their own
    out: Path
    references: int = 0  # reference images of a benchmark without captions
    seed: int = 0


def main(args: Arguments):
    images = args.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    make = write_scenes if find_source(args.source) else link_coco
    make = write_references if args.references else make
    prompts, recipe = make(args, images)
    recipe |= {
        "source": args.source,
        "seed": args.seed,
        "prompts": len(prompts),
        "pictures": len(image_paths(images)),
        "captions_sha256": json_sha256(prompts["caption"].tolist()),
    }
    write_json(args.out / "benchmark.json", recipe)
    with atomic(args.out / "prompts.parquet") as temporary:
        prompts.to_parquet(temporary, index=False)


def write_scenes(args: Arguments, images: Path) -> tuple[pd.DataFrame, dict]:
    """Write an image of a registered source for each prompt, and the source's classes."""
    source = find_source(args.source)
    made = source.benchmark(args.count, args.resolution, args.seed)
    rows = []
    for i, (image, row) in enumerate(track(made, "writing the benchmark", total=args.count)):
        save_png(image, images / f"{i:05d}.png")
        rows.append({"prompt_id": i, **row})
    return pd.DataFrame(rows), {"attribution": source.attribution, "classes": source.classes()}


def link_coco(args: Arguments, images: Path) -> tuple[pd.DataFrame, dict]:
    """Choose captions, and link all images of the dataset, with or without a chosen caption."""
    folder = Path(args.source)
    files, captions = read_coco(folder)
    prompts = choose_prompts(captions, args.count, args.seed)
    for old in images.iterdir():
        if old.is_symlink() or old.is_file():  # no folder such as .ipynb_checkpoints
            old.unlink()
    for name in files["file"]:
        with where_supported():
            (images / name).symlink_to((folder / name).resolve())
        if not (images / name).is_symlink():
            shutil.copyfile(folder / name, images / name)
    return prompts, {"annotations_sha256": file_sha256(annotations(folder))}


def write_references(args: Arguments, images: Path) -> tuple[pd.DataFrame, dict]:
    """Write `references` images, chosen at random if there are more. All prompts are empty."""
    found = load_images(args.source, args.references, args.seed)
    if len(found) < args.references:
        raise UserError(
            f"{args.source} holds {len(found)} images, fewer than the {args.references} `references`: request fewer"
        )
    chosen = np.random.default_rng(args.seed).permutation(len(found))[: args.references]
    for i, image in enumerate(track(found[np.sort(chosen)], "writing the benchmark")):
        save_png(image, images / f"{i:05d}.png")
    recipe = {"pictures_sha256": hashlib.sha256(found.tobytes()).hexdigest()}
    if source := find_source(args.source):
        recipe["attribution"] = source.attribution
    return pd.DataFrame({"prompt_id": range(args.count), "caption": ""}), recipe


if __name__ == "__main__":
    cli.run(main)
