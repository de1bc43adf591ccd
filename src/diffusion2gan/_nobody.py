"""Imported with the package: sets USER and HOME for a user who lacks them, as in containers.

Python, Snakemake and torch look for the name and end with a KeyError. Libraries look for the home, to keep files there,
and end with an error or keep them in a folder `~`. Where there are a name and a home, this does nothing.
"""

import getpass
import os
import tempfile


def repair() -> None:
    """Set USER if nothing else says who it is, and HOME if there is no home, or an empty one that takes no files."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["USER"] = f"user{os.getuid()}"
    home = os.path.expanduser("~")
    if home == "~" or not os.access(home, os.W_OK) and not os.path.isdir(f"{home}/.cache"):  # Docker's is /
        os.environ["HOME"] = os.path.join(tempfile.gettempdir(), f"home-{os.getuid()}")
        os.makedirs(os.environ["HOME"], mode=0o700, exist_ok=True)


repair()
