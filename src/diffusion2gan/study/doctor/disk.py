"""The disk of the work folder: what it holds, and whether it can rename and lock files."""

import fcntl
import os
import tempfile
from pathlib import Path

from diffusion2gan.io import check_disk
from diffusion2gan.study.doctor.finding import SOUND, WRONG, Answer


def space(folder: Path, needed: int) -> Answer:
    """Whether the disk of `folder` has `needed` free bytes. Raises UserError if not."""
    check_disk(folder, needed, "all that this scale makes")
    return SOUND, f"{needed / 1e9:,.1f} GB are needed, and free"


def files(folder: Path) -> Answer:
    """Whether files in `folder` can be written, renamed and locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as trial:
            file = Path(trial, "a")
            file.write_bytes(bytes(4096))
            os.replace(file, file.with_name("b"))
            with open(file, "wb") as opened:
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    return SOUND, f"files cannot be locked ({error.strerror}): do not start the workflow twice at once"
    except OSError as error:
        return WRONG, f"files cannot be written ({error.strerror}): set `work` in config.yaml to another disk"
    return SOUND, "files can be written, renamed and locked"
