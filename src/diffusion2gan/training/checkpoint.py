"""Checkpoints on disk: tensors and numbers, with the settings of the training."""

from pathlib import Path

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic

FORMAT = {"checkpoint_format": 2}  # compared like a setting, so that a checkpoint of another format is refused


def save(path: Path, state: dict, settings: dict) -> None:
    """Write the state (nested dicts of tensors and numbers) with the settings of the training."""
    with atomic(path) as temporary:
        torch.save({"settings": settings | FORMAT, "state": state}, temporary)


def load(path: Path, settings: dict) -> dict | None:
    """The state saved under the same settings, or None if there is none.

    Raises UserError, naming the differences, when the settings have changed.
    """
    if not path.exists():
        return None
    saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # one copy for all processes
    before, now = saved["settings"], settings | FORMAT
    changed = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"the checkpoint {path} was made under other settings ({'; '.join(changed)}): "
            f"delete {path.parent} to start anew, or restore the settings"
        )
    return saved["state"]
