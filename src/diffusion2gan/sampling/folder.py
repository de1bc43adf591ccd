"""A folder of drawn pictures: 00000.png, 00001.png, … and `sample.json`, which says how they were drawn.

Picture i shows prompt i. Its noise depends on (seed, i) alone, so that every model that is drawn
with one seed starts picture i from the same noise.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic
from diffusion2gan.seeds import mix

SUFFIXES = {".png", ".jpg", ".jpeg"}
FILTERS = {name.lower(): value for name, value in Image.Resampling.__members__.items()}
_STREAM = 0x53414D504C45  # apart from the seeds of the pairs: no picture is scored on noise that was trained on


def noise_seeds(seed: int, pictures: Iterable[int]) -> list[int]:
    """The noise seed of each picture."""
    return [mix(_STREAM, seed, i) for i in pictures]


def create(folder: Path, recipe: dict) -> None:
    """Make the folder ready for pictures drawn by `recipe`, which holds their `count`.

    Pictures of an earlier drawing are removed; UserError where the folder holds anything else's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sample.json"
    if any(folder.iterdir()) and not file.exists():
        raise UserError(f"{folder} is not empty and was not drawn by this project: empty it, or draw elsewhere")
    for path in folder.glob("[0-9]*.png"):
        path.unlink()
    with atomic(file) as temporary:
        temporary.write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def recipe(folder: Path) -> dict | None:
    """How the pictures of a folder were drawn, None where they are from elsewhere."""
    file = folder / "sample.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def paths(folder: Path) -> list[Path]:
    """The pictures of a folder by name. UserError where there is none, or their drawing was cut short."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise UserError(f"there are no pictures in {folder}: expected 00000.png, 00001.png, …")
    drawn = recipe(folder)
    if drawn and drawn["count"] != len(found):
        raise UserError(f"{folder} holds {len(found)} of {drawn['count']} pictures: draw them again with sample.py")
    return found


def named(models: Sequence[str]) -> dict[str, Path]:
    """Folders of pictures by the names of their models, given as NAME=FOLDER."""
    folders = {}
    for model in models:
        name, separator, folder = model.partition("=")
        if not separator:
            raise UserError(f"--models {model}: write NAME=FOLDER_OF_PICTURES")
        folders[name] = Path(folder)
    return folders


class Pictures:
    """Pictures as they are compared: the central square, resized to one resolution.

    As GigaGAN is evaluated (Kang et al. 2023, by the same first author): the resize filter moves FID more than
    most ablations do, so filter and resolution are part of every recipe. uint8 (resolution, resolution, 3).
    """

    def __init__(self, files: Sequence[Path], resolution: int, resize_filter: str = "lanczos"):
        if resize_filter not in FILTERS:
            raise UserError(f"no resize filter '{resize_filter}': use one of {', '.join(FILTERS)}")
        self.files, self.resolution, self.resize_filter = list(files), resolution, resize_filter

    @property
    def recipe(self) -> dict:
        """What the pictures' pixels depend on."""
        return {"crop": "center", "resolution": self.resolution, "resize_filter": self.resize_filter}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            picture = Image.open(self.files[index]).convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{self.files[index]} is not a whole picture ({error}): draw or fetch it again") from error
        side = min(picture.size)
        left, top = (round((length - side) / 2) for length in picture.size)
        picture = picture.crop((left, top, left + side, top + side))
        return np.asarray(picture.resize((self.resolution, self.resolution), FILTERS[self.resize_filter]))

    def check_sizes(self) -> None:
        """Raise UserError unless all pictures are of one size, as drawings of one model are."""
        sizes = {}
        for file in self.files:
            try:
                with Image.open(file) as picture:
                    sizes.setdefault(picture.size, file)
            except OSError as error:
                raise UserError(f"{file} is not a whole picture ({error}): draw it again") from error
        if len(sizes) > 1:
            (first, one), (second, other) = list(sizes.items())[:2]
            raise UserError(f"{one} is of {first} pixels, {other} of {second}: draw all of them with one model")

    def batches(self, size: int) -> Iterator[list[np.ndarray]]:
        """The pictures in lists of `size`, read by as many threads as torch computes with."""
        with ThreadPoolExecutor(torch.get_num_threads()) as readers:
            for first in range(0, len(self), size):
                yield list(readers.map(self.__getitem__, range(first, min(first + size, len(self)))))
