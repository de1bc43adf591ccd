"""Training state on disk: tensors only, bound to the settings it was made under."""

from pathlib import Path

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic


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
