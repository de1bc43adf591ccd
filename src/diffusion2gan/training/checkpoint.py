"""Training state on disk: atomic, tensors only, bound to the settings it was made under."""

import os
import platform
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch

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


def save(path: Path, state: dict, settings: dict) -> None:
    """Write the state (nested dicts of tensors and numbers) with the settings that led to it."""
    with atomic(path) as temporary:
        torch.save({"settings": settings, "state": state}, temporary)


def load(path: Path, settings: dict) -> dict | None:
    """The state saved under the same settings, or None where there is none.

    Raises UserError, naming the differences, when the settings have changed since.
    """
    if not path.exists():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # one copy for all processes
    changed = [
        f"{key} was {saved['settings'].get(key)!r} and is {settings.get(key)!r}"
        for key in sorted(saved["settings"].keys() | settings.keys())
        if saved["settings"].get(key) != settings.get(key)
    ]
    if changed:
        raise UserError(
            f"the checkpoint {path} was made under other settings ({'; '.join(changed)}): "
            f"delete {path.parent} to start anew, or restore the settings"
        )
    return saved["state"]
