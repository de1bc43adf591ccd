"""A folder of samples: 00000.png, 00001.png, … and `sample.json`, the recipe that they were sampled with.

Image i shows prompt i. Its noise depends on (seed, i) only, so all models sampled with the same seed start image i
from the same noise.

Several jobs may sample into one folder, each a shard of its batches. A finished shard leaves a manifest,
`shard-00000-of-00001.json`. A killed one resumes: its images stay, and `.shard-00000-of-00001.json.unfinished` says
what they were sampled from.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.images import SUFFIXES, open_image, opened
from diffusion2gan.io import files_below, is_hidden, read_json, write_json, write_text
from diffusion2gan.pairs.sizes import shard_range
from diffusion2gan.seeds import mix

FILTERS = {name.lower(): value for name, value in Image.Resampling.__members__.items()}
_STREAM = 0x53414D504C45  # keeps these seeds apart from the pairs': no model is scored on its training noise


def noise_seeds(seed: int, images: Iterable[int]) -> list[int]:
    """The noise seed of each image, given the indices of the images."""
    return [mix(_STREAM, seed, i) for i in images]


def batches_of_shard(count: int, batch_size: int, shard: int = 0, shards: int = 1) -> list[range]:
    """The batches of `count` images that a shard samples. No batch is split, so images do not depend on `shards`."""
    batches = [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
    own = shard_range(shard, shards, len(batches))
    return batches[own.start : own.stop]


def prepare_folder(folder: Path, recipe: dict, kept: Collection[Path] = ()) -> None:
    """Prepare a folder for new samples: write their recipe, which holds their `count`, and remove earlier samples.

    Samples in `kept` stay. Raises UserError if the folder holds anything that this project did not sample.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sample.json"
    # list the folder, then look for the recipe: another shard that starts meanwhile writes its recipe before any sample
    if any(not path.name.startswith(".") for path in folder.iterdir()) and not file.exists():
        raise UserError(f"{folder} is not empty and was not sampled by this project: empty it, or use another folder")
    for path in folder.glob("[0-9]*.png"):
        if path not in kept:
            path.unlink(missing_ok=True)  # another shard may have removed it
    write_json(file, recipe)


@contextmanager
def sampled_shard(
    folder: Path, recipe: dict, batches: Sequence[range], shard: int = 0, shards: int = 1, model: Path | None = None
) -> Iterator[list[range]]:
    """Prepare a folder for the `batches` of a shard and yield those that are missing; then write its manifest.

    A killed job resumes if its recipe and the files of the `model` have not changed; otherwise all images of the shard
    are sampled again. Raises UserError if the folder holds anything that this project did not sample.
    """
    manifest = folder / f"shard-{shard:05d}-of-{shards:05d}.json"
    unfinished = folder / f".{manifest.name}.unfinished"
    files = files_below(model) if model else []
    content = json.dumps({
        "recipe": recipe,
        "images": [[batch.start, batch.stop] for batch in batches],
        "model": {str(path): path.stat().st_mtime_ns for path in files},
    })  # fmt: skip
    resumed = unfinished.exists() and unfinished.read_text(encoding="utf-8") == content
    earlier = [*folder.glob("shard-*.json"), *folder.glob(".shard-*.unfinished")]
    others = [path for path in earlier if f"-of-{shards:05d}." not in path.name]
    for path in [*others, manifest, *([] if resumed else [unfinished])]:
        path.unlink(missing_ok=True)
    own = () if resumed else {i for batch in batches for i in batch}
    prepare_folder(folder, recipe, {image_path(folder, i) for i in range(recipe["count"]) if i not in own})
    write_text(unfinished, content)
    yield [batch for batch in batches if not all(_is_whole(image_path(folder, i)) for i in batch)]
    write_json(manifest, {"images": sum(map(len, batches)), "recipe": recipe})
    unfinished.unlink()


def image_path(folder: Path, index: int) -> Path:
    """The file of an image."""
    return folder / f"{index:05d}.png"


def _is_whole(path: Path) -> bool:
    """Whether an image exists and can be read to its end."""
    try:
        open_image(path)
    except UserError:
        return False
    return True


def read_recipe(folder: Path) -> dict | None:
    """The recipe that the images of a folder were sampled with; None if they are from elsewhere.

    Raises UserError if it cannot be read, or does not hold the number of images.
    """
    file = folder / "sample.json"
    if not file.exists():
        return None
    recipe = read_json(file, "sample again with sample.py")
    if not isinstance(recipe.get("count"), int) or not isinstance(recipe.get("repeats", 1), int):
        raise UserError(f"{file} does not hold the number of images: sample again with sample.py")
    return recipe


def image_paths(folder: Path) -> list[Path]:
    """The images of a folder, sorted by name; numbers in names count as numbers, so that 100000 comes after 10001.

    Raises UserError if there are none, or fewer than the recipe says, or if one is a link to a file that is gone.
    """
    files = folder.iterdir() if folder.is_dir() else []
    found = [path for path in files if path.suffix.lower() in SUFFIXES and not is_hidden(path.name)]
    found.sort(key=_natural)
    if not found:
        raise UserError(f"there are no images in {folder}: expected 00000.png, 00001.png, …")
    recipe = read_recipe(folder)
    if recipe and recipe["count"] != len(found):
        raise UserError(f"{folder} holds {len(found)} of {recipe['count']} images: sample them again with sample.py")
    if gone := next((path for path in found if not path.exists()), None):  # scratch disks remove old files
        target = gone.readlink()
        raise UserError(f"{gone} links to {target}, which is gone: fetch that again, or delete and remake {folder}")
    return found


def _natural(path: Path) -> tuple:
    """A key that sorts names with the numbers in them as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], path.name


def model_folders(models: Sequence[str]) -> dict[str, Path]:
    """The folders of samples by the names of their models, parsed from NAME=FOLDER."""
    folders = {}
    for model in models:
        name, separator, folder = model.partition("=")
        if not separator:
            raise UserError(f"--models {model}: write NAME=FOLDER_OF_IMAGES")
        folders[name] = Path(folder)
    return folders


class ImageFiles:
    """Image files, read as metrics compare them: the central square, resized to uint8 (resolution, resolution, 3).

    This is GigaGAN's evaluation (Kang et al. 2023). The resize filter changes FID more than most ablations do, so
    filter and resolution are part of every recipe.
    """

    def __init__(self, files: Sequence[Path], resolution: int, resize_filter: str = "lanczos"):
        if resize_filter not in FILTERS:
            raise UserError(f"no resize filter '{resize_filter}': use one of {', '.join(FILTERS)}")
        self.files, self.resolution, self.resize_filter = list(files), resolution, resize_filter

    @property
    def recipe(self) -> dict:
        """The settings that the pixels depend on."""
        return {"crop": "center", "resolution": self.resolution, "resize_filter": self.resize_filter}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        image = open_image(self.files[index])
        side = min(image.size)
        left, top = (round((length - side) / 2) for length in image.size)
        image = image.crop((left, top, left + side, top + side))
        return np.asarray(image.resize((self.resolution, self.resolution), FILTERS[self.resize_filter]))

    def check_sizes(self) -> None:
        """Raise UserError unless all images have the same size, as samples of one model do."""
        sizes = {}
        for file in self.files:
            with opened(file) as image:
                sizes.setdefault(image.size, file)
        if len(sizes) > 1:
            (first, one), (second, other) = list(sizes.items())[:2]
            raise UserError(f"{one} has {first} pixels, {other} has {second}: sample all of them with one model")

    def batches(self, size: int) -> Iterator[list[np.ndarray]]:
        """The images in lists of `size`, read by as many threads as torch uses."""
        with ThreadPoolExecutor(torch.get_num_threads()) as readers:
            for first in range(0, len(self), size):
                yield list(readers.map(self.__getitem__, range(first, min(first + size, len(self)))))
