"""Files on disk: atomic writes, checksums, pickles read without executing them, free space."""

import hashlib
import json
import math
import os
import pickle
import platform
import shutil
from collections.abc import Callable, Collection
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from diffusion2gan.errors import UserError


@contextmanager
def atomic(path: Path):
    """Yield a temporary name in the folder of `path`; rename it to `path` on success, remove it on failure.

    The file is fsynced first, and gets the permissions of any new file: safetensors makes its files readable by
    their owner alone, but disks are shared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")  # nodes share disks
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and in those below it, sorted; also in linked folders, which `rglob` leaves out."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data: Jupyter's `.ipynb_checkpoints`, macOS's `._name`, a disk's `lost+found`."""
    return name.startswith(".") or name == "lost+found"


def data_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files in a folder and in those below it with one of the suffixes, in any case, sorted; no hidden ones."""
    return [
        path
        for path in files_below(folder)
        if path.suffix.lower() in suffixes and not any(map(is_hidden, path.relative_to(folder).parts))
    ]


def data_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; no hidden ones. Empty if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))


def _umask() -> int:
    """The process's umask; the only way to read it is to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def atomic_folder(folder: Path):
    """Yield the name of a temporary folder; on success it replaces `folder`, on failure it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, previous = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        yield temporary
        if folder.exists():
            os.replace(folder, previous)
        os.replace(temporary, folder)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object, indent: int = 1) -> None:
    """Write JSON atomically, with a newline at the end. Raises UserError for NaN and infinity, which JSON lacks."""
    if place := _not_finite(content):
        raise UserError(f"{path} is not written: {place} is NaN or infinite, so what computed it is broken")
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def read_json(path: Path, hint: str) -> dict:
    """Read a JSON object. Raises UserError that ends in the `hint` for any other file, and for NaN and infinity."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): {hint}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no JSON object: {hint}")
    if place := _not_finite(content):
        raise UserError(f"{path}: {place} is NaN or infinite: {hint}")
    return content


def _not_finite(content: object) -> str | None:
    """The keys that lead to the first NaN or infinity, with dots between them."""
    if isinstance(content, float) and not math.isfinite(content):
        return "the number"
    within = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    places = ((key, _not_finite(value)) for key, value in within)
    return next((f"{key}.{place}".removesuffix(".the number") for key, place in places if place), None)


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless the disk of `folder`, which need not exist yet, has `needed` free bytes."""
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e9:,.1f} GB left and {what} needs {needed / 1e9:,.1f} GB: "
            "free some, or point `work` in config.yaml at a larger disk"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return _digest(path, "sha256")


def file_md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    return _digest(path, "md5")


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def load_pickle(file: BinaryIO, name: str, allowed: dict[str, Callable], encoding: str = "ASCII") -> object:
    """Read a pickle without executing it.

    `allowed` maps each global that the pickle may name (`module.name`) to the function that is called instead.
    Raises UserError for any other global, and for a file that is not a pickle. Messages refer to the file as `name`.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, qualified: str) -> Callable:
            wanted = f"{module}.{qualified}"
            if wanted not in allowed:
                raise UserError(f"'{name}' asks for {wanted}, which data does not need: refused, use the official file")
            return allowed[wanted]

    try:
        return Unpickler(file, encoding=encoding).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"'{name}' is not a valid pickle: {type(error).__name__}: {error}") from error
