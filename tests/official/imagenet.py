"""ImageNet: `train/{wnid}/` and `val/{wnid}/` with pictures of many sizes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n01484850", "n02119789")


def write(folder: Path, train: int = 3, val: int = 2, wnids: Sequence[str] = WNIDS) -> Path:
    """`train` and `val` pictures of each class, whose colour is its own. One is grey, one CMYK."""
    for number, wnid in enumerate(wnids):
        names = {f"train/{wnid}/{wnid}_{i}.JPEG": 31 * i for i in range(train)}
        names |= {f"val/{wnid}/ILSVRC2012_val_{i * len(wnids) + number + 1:08d}.JPEG": 17 * i + 5 for i in range(val)}
        for i, (name, shade) in enumerate(names.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            size = 40 + 9 * i, 56 - 5 * i
            colour = np.array([60 * number, 200 - 40 * number, shade % 256])
            noise = np.random.default_rng(number).integers(-20, 20, (size[1], size[0], 3))
            picture = Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))
            picture = picture.convert({0: "L", 1: "CMYK"}.get(i, "RGB") if number == 0 else "RGB")
            picture.save(path, format="JPEG")
    return folder
