"""Files and folders that are whole or not there, checksums, and room on the disk."""

import hashlib
import os
import platform
import shutil
from contextlib import contextmanager
from pathlib import Path

from diffusion2gan.errors import UserError


@contextmanager
def atomic(path: Path):
    """Give a temporary name beside `path`; on success it is fsynced and renamed, on failure removed.

    It is as readable as any new file: safetensors makes its own for the user alone, and disks are shared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")  # disks are shared by nodes
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """What a new file of this process is not allowed; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def atomic_folder(folder: Path):
    """Give a temporary folder beside `folder`; on success it takes its place, on failure it is removed."""
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


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless `folder`, or what will hold it, has room for `needed` bytes."""
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e9:,.1f} GB left and {what} needs {needed / 1e9:,.1f} GB: "
            "free some, or point `work` in config.yaml at a larger disk"
        )


def sha256(path: Path) -> str:
    """Checksum of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
