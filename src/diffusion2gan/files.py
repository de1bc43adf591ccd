"""Files and folders that are whole or not there."""

import os
import platform
import shutil
from contextlib import contextmanager
from pathlib import Path


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
