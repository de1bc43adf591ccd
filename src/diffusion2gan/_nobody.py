"""Imported with the package: gives a user without a name or a home, as in containers, both.

Python, Snakemake and torch look for the name and end with a KeyError. Libraries look for the home, to keep files there,
and end with an error or keep them in a folder `~`. Where there are a name and a home, this does nothing.
"""

import getpass
import os
import tempfile
from pathlib import Path


def repair() -> None:
    """Set USER and HOME if nothing else says what they are."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["USER"] = f"user{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.path.join(tempfile.gettempdir(), f"home-{os.getuid()}")
        os.makedirs(os.environ["HOME"], exist_ok=True)


repair()
