"""BAPPS's `2afc`: `{split}/{subset}/{ref,p0,p1}/000000.png` of 64 pixels, and the judgement as `judge/000000.npy`."""

from pathlib import Path

import numpy as np
from PIL import Image

TRAIN = ("traditional", "cnn", "mix")
VAL = ("cnn", "traditional", "color", "deblur", "frameinterp", "superres")


def write(folder: Path, split: str, subset: str, judgements: dict[str, tuple[int, int, int, float]]) -> Path:
    """Judgements by name: the grey values of ref, p0 and p1, and the share of people who prefer p1, as float32 (1,)."""
    for role in ("ref", "p0", "p1", "judge"):
        (folder / split / subset / role).mkdir(parents=True, exist_ok=True)
    for name, (*greys, share) in judgements.items():
        for role, grey in zip(("ref", "p0", "p1"), greys, strict=True):
            Image.new("RGB", (64, 64), (grey,) * 3).save(folder / split / subset / role / f"{name}.png")
        np.save(folder / split / subset / "judge" / f"{name}.npy", np.array([share], np.float32))
    return folder


def whole(folder: Path, count: int = 2) -> Path:
    """Both splits with all their subsets, `count` judgements in each."""
    for split, subsets in {"train": TRAIN, "val": VAL}.items():
        for number, subset in enumerate(subsets):
            greys = {
                f"{i:06d}": (20 * number, 20 * number + 5 * (i + 1), 20 * number + 40, i % 2 / 2) for i in range(count)
            }
            write(folder, split, subset, greys)
    return folder
