"""Pictures of 32 × 32 without captions: CIFAR-10 (Krizhevsky 2009), or OpenMoji scenes in its place.

`source` is the official python archive, a folder of pictures, or `openmoji`.
"""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10

from diffusion2gan.data import sources
from diffusion2gan.errors import UserError
from diffusion2gan.pixel import safe_pickle
from diffusion2gan.progress import track
from diffusion2gan.toy.openmoji import Scenes

SIDE = 32
URL, MD5, BYTES = *sources.CIFAR10.values(), 170_498_071
SUFFIXES = {".png", ".jpg", ".jpeg"}


def pictures(source: str, count: int, seed: int = 0) -> np.ndarray:
    """The training pictures of a source, uint8 (N, 32, 32, 3): all there are, `count` scenes of `openmoji`.

    Raises UserError when there is no such source, its checksum is wrong, or a picture is of another size.
    """
    if source == "openmoji":
        scenes = Scenes("all", seed, SIDE)
        return np.stack([scenes[i].image for i in track(range(count), "drawing scenes")])
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise UserError(
            f"there is no CIFAR-10 at {source}: fetch it with `snakemake -- {source}` or from {URL} "
            f"({BYTES / 1e6:.0f} MB), or name a folder of pictures"
        )
    return _from_archive(path)


def check(archive: Path) -> None:
    """Raise UserError unless a file is the official archive, by its checksum."""
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest != MD5:
        raise UserError(f"{archive} is not the official archive: its MD5 is {digest}, not {MD5}; fetch it from {URL}")


def _from_archive(path: Path) -> np.ndarray:
    check(path)
    with tarfile.open(path) as archive:
        files = [f"{CIFAR10.base_folder}/{name}" for name, _ in CIFAR10.train_list]
        batches = [_batch(archive.extractfile(name).read(), f"{path}: {name}") for name in files]
    return np.concatenate(batches).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _batch(content: bytes, name: str) -> np.ndarray:
    """The pixels (N, 3072) of a batch, which is a pickle of a NumPy array in a dictionary."""
    allowed = {
        "numpy.core.multiarray._reconstruct": np._core.multiarray._reconstruct,
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
    }
    return safe_pickle.load(io.BytesIO(content), name, allowed, encoding="bytes")[b"data"]


def _from_folder(folder: Path) -> np.ndarray:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"there are no pictures in {folder}: give a folder of .png or .jpg, or the archive of {URL}")
    return np.stack([_picture(file) for file in track(files, "reading pictures")])


def _picture(file: Path) -> np.ndarray:
    picture = Image.open(file).convert("RGB")
    if picture.size != (SIDE, SIDE):
        raise UserError(f"{file} is of {' × '.join(map(str, picture.size))} pixels, CIFAR-10's are of {SIDE} × {SIDE}")
    return np.asarray(picture)
