"""CIFAR-10's archive `cifar-10-python.tar.gz`: batches that Python 2 pickled."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

FILES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


class Python2(pickle._Pickler):
    """Writes bytes as the strings of Python 2, which made the official files."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, content):
        self.write(b"T" + len(content).to_bytes(4, "little") + content)

    dispatch[bytes] = save_bytes


def pixels(number: int, count: int = 2) -> np.ndarray:
    """The rows (count, 3072) of a batch: the colours one after the other."""
    return np.random.default_rng(number).integers(0, 256, (count, 3072), dtype=np.uint8)


def archive(path: Path, content: object = None, count: int = 2) -> Path:
    """The archive with `count` images in each batch, or with other `content` in all of them.

    Readers check the official archive's MD5, so a test replaces the checksum that they expect by this file's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for number, name in enumerate(FILES, 1):
            data = {b"batch_label": b"training batch", b"labels": [1, 2] * (count // 2)}
            data |= {
                b"data": pixels(number, count),
                b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"] * count,
            }
            Python2(file := io.BytesIO(), protocol=2).dump(content or data)
            dumped = file.getvalue().replace(b"numpy._core", b"numpy.core")  # NumPy's name of then
            _add(tar, f"cifar-10-batches-py/{name}", dumped)
        _add(tar, "cifar-10-batches-py/readme.html", b"<meta HTTP-EQUIV='REFRESH'>")
    return path


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
