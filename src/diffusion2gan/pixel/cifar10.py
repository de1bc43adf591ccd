"""32 × 32 images without captions: CIFAR-10 (Krizhevsky 2009), a folder of images, or a registered source."""

import io
import tarfile
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10

from diffusion2gan.data import sources
from diffusion2gan.errors import UserError
from diffusion2gan.images import SUFFIXES, load_image
from diffusion2gan.io import data_files, data_folders, file_md5, load_pickle
from diffusion2gan.progress import track

SIDE = 32
URL, MD5, BYTES = *sources.CIFAR10.values(), 170_498_071


def load_images(source: str, count: int, seed: int = 0) -> np.ndarray:
    """The training images of a source, uint8 (N, 32, 32, 3).

    `source` is the official Python archive, a folder of images, or the name of a registered source. All images are
    loaded; a registered source is endless, so it gives `count` images that depend on `seed`.
    Raises UserError if there is no such source, the checksum is wrong, or an image has another size.
    """
    if registered := sources.find_source(source):
        return registered.unconditional_images(count, SIDE, seed)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise UserError(
            f"there is no CIFAR-10 at {source}: fetch it with `snakemake --cores 1 -- {source}` or from {URL} "
            f"({BYTES / 1e6:.0f} MB), or give a folder of images"
        )
    return _from_archive(path)


def check(archive: Path) -> None:
    """Raise UserError unless a file has the checksum of the official archive."""
    digest = file_md5(archive)
    if digest != MD5:
        raise UserError(f"{archive} is not the official archive: its MD5 is {digest}, not {MD5}; fetch it from {URL}")


def _from_archive(path: Path) -> np.ndarray:
    check(path)
    with tarfile.open(path) as archive:
        files = [f"{CIFAR10.base_folder}/{name}" for name, _ in CIFAR10.train_list]
        batches = [_batch(archive.extractfile(name).read(), f"{path}: {name}") for name in files]
    return np.concatenate(batches).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _batch(content: bytes, name: str) -> np.ndarray:
    """The pixels (N, 3072) of a batch file, a pickled dictionary with a NumPy array."""
    allowed = {
        "numpy.core.multiarray._reconstruct": np._core.multiarray._reconstruct,
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
    }
    return load_pickle(io.BytesIO(content), name, allowed, encoding="bytes")[b"data"]


def _from_folder(folder: Path) -> np.ndarray:
    if "train" in (parts := data_folders(folder)) and len(parts) > 1:
        raise UserError(f"{folder} holds {' and '.join(parts)}: give {folder}/train, or a folder without the others")
    files = data_files(folder, SUFFIXES)
    if not files:
        raise UserError(f"there are no images in {folder}: give a folder of .png or .jpg, or the archive of {URL}")
    return np.stack([_image(file) for file in track(files, "reading images")])


def _image(file: Path) -> np.ndarray:
    image = load_image(file)
    if image.shape[:2] != (SIDE, SIDE):
        size = " × ".join(map(str, image.shape[1::-1]))
        raise UserError(f"{file} has {size} pixels, CIFAR-10's images have {SIDE} × {SIDE}: resize it")
    return image
