"""Where a number comes from: its settings, the commit, the versions, the device and the time."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("diffusion2gan", "torch", "diffusers", "transformers", "open_clip_torch", "clean-fid", "numpy", "scipy")


def sha256(settings: object) -> str:
    """Hash of settings: SHA-256 of their canonical JSON (keys sorted, no spaces, paths as text).

    Raises TypeError for what JSON cannot say, ValueError for NaN and infinity.
    """
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False, default=os.fspath)
    return hashlib.sha256(canonical.encode()).hexdigest()


def git_commit(file: Path = Path(__file__)) -> str:
    """The commit that `file` is tracked at, `-dirty` after it where tracked files differ, else "unknown"."""
    try:
        _git(file, "ls-files", "--error-unmatch", file.name)  # not the repository around a virtual environment
        return _git(file, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """The version of Python and of each package that a number can depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def describe(device: torch.device) -> str:
    """A device in words: the name of the GPU, or the machine and threads of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def record(settings: dict, device: torch.device) -> dict:
    """The provenance that is written beside every number; `settings` are what JSON can say."""
    return {
        "settings": settings,
        "settings_sha256": sha256(settings),
        "git_commit": git_commit(),
        "versions": versions(),
        "device": describe(device),
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(file: Path, *arguments: str) -> str:
    command = ["git", "-C", str(file.resolve().parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
