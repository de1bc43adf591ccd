"""The provenance of a number: settings, commit, package versions, device and time."""

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


def json_sha256(content: object) -> str:
    """The SHA-256, in hexadecimal, of content written as canonical JSON: keys sorted, no spaces, paths as text.

    Raises TypeError for content that is not JSON, ValueError for NaN and infinity.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=os.fspath)
    return hashlib.sha256(canonical.encode()).hexdigest()


def git_commit(file: Path = Path(__file__)) -> str:
    """The commit of the repository that tracks `file`, `-dirty` added if tracked files changed; else "unknown"."""
    try:
        _git(file, "ls-files", "--error-unmatch", file.name)  # not the repository around a virtual environment
        return _git(file, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def describe(device: torch.device) -> str:
    """The name of a GPU, or the architecture and threads of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def record(settings: dict, device: torch.device) -> dict:
    """The provenance written beside every number; `settings` must be JSON."""
    return {
        "settings": settings,
        "settings_sha256": json_sha256(settings),
        "git_commit": git_commit(),
        "versions": versions(),
        "device": describe(device),
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(file: Path, *arguments: str) -> str:
    command = ["git", "-C", str(file.resolve().parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
