"""Files on disk: atomic writes, checksums, pickles read without executing them, free space."""

import errno
import hashlib
import json
import math
import os
import pickle
import platform
import re
import shutil
import uuid
from collections.abc import Callable, Collection
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from diffusion2gan.errors import UserError

# what a file system answers to an operation that it lacks: chmod on CIFS, flock on Lustre and NFS, fsync on FUSE
LACKING = {errno.EPERM, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY}
# errors of a disk that the user can mend
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG}
HIDDEN = {"lost+found", "__MACOSX", "@eaDir", "$RECYCLE.BIN"}  # of disks, archives and network storage
REMEDY = "delete it and run again to make it anew"


@contextmanager
def where_supported():
    """Leave out an operation that the file system lacks. Other errors are raised."""
    try:
        yield
    except OSError as error:
        if error.errno not in LACKING:
            raise


def fsync(file: BinaryIO) -> None:
    """Write a file to the disk now, if the disk can."""
    with where_supported():
        os.fsync(file.fileno())


def disk_problem(error: BaseException) -> str | None:
    """What a disk answered: full, read-only, not permitted, unreadable; None for any other error."""
    if isinstance(error, SafetensorError) and (number := re.search(r"\(os error (\d+)\)", str(error))):
        error = OSError(int(number[1]), os.strerror(int(number[1])))
    if not isinstance(error, OSError) or error.errno not in DISK:
        return None
    return os.strerror(error.errno) + (f": {error.filename}" if error.filename else "")


@contextmanager
def atomic(path: Path):
    """Yield a temporary name in the folder of `path`; rename it to `path` on success, remove it on failure.

    The file is fsynced first, and gets the permissions of any new file where the disk has any: safetensors makes its
    files readable by their owner alone, but disks are shared. Raises UserError if the disk is full or read-only.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")  # nodes share disks
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            fsync(file)
        with where_supported():
            temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        if not (problem := disk_problem(error)):
            raise
        raise UserError(f"{path} cannot be written ({problem}): free some space, or choose another disk") from error
    finally:
        with suppress(OSError):  # of a read-only disk: the error above says so
            temporary.unlink(missing_ok=True)


@contextmanager
def reading(path: Path, remedy: str = REMEDY):
    """Name a file that is cut short or damaged: an error while it is read and parsed becomes a UserError."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read ({reason}): {remedy}") from error


def read_table(path: Path, **options):
    """A CSV, TSV or parquet file as a pandas frame. Raises UserError if it cannot be read."""
    import pandas as pd  # here, because it is slow and planning does not need it

    with reading(path):
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", **options)


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and in those below it, sorted; also in linked folders, which `rglob` leaves out."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder, followlinks=True) for name in names)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data: Jupyter's `.ipynb_checkpoints`, macOS's `._name`, a disk's `lost+found`."""
    return name.startswith(".") or name in HIDDEN


def data_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files in a folder and in those below it with one of the suffixes, in any case, sorted; no hidden ones."""
    return [
        path
        for path in files_below(folder)
        if path.suffix.lower() in suffixes and not any(map(is_hidden, path.relative_to(folder).parts))
    ]


def data_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; no hidden ones. Empty if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))


def _umask() -> int:
    """The process's umask; the only way to read it is to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def atomic_folder(folder: Path):
    """Yield the name of a temporary folder; on success it replaces `folder`, on failure it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    own = f".{folder.name}.{uuid.uuid4().hex[:8]}"  # a process of this number may have left one: containers count anew
    temporary, previous = (folder.with_name(f"{own}.{end}") for end in ("tmp", "old"))
    try:
        yield temporary
        if folder.exists():
            os.replace(folder, previous)
        os.replace(temporary, folder)
        shutil.rmtree(previous, ignore_errors=True)  # NFS keeps files that are open elsewhere
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object, indent: int = 1) -> None:
    """Write JSON atomically, with a newline at the end. Raises UserError for NaN and infinity, which JSON lacks."""
    if place := _not_finite(content):
        raise UserError(f"{path} is not written: {place} is NaN or infinite, so what computed it is broken")
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def read_json(path: Path, hint: str = REMEDY) -> dict:
    """Read a JSON object. Raises UserError that ends in the `hint` for any other file, and for NaN and infinity."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        place = _not_finite(content)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): {hint}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no JSON object: {hint}")
    if place:
        raise UserError(f"{path}: {place} is NaN or infinite: {hint}")
    return content


def _not_finite(content: object) -> str | None:
    """The keys that lead to the first NaN or infinity, with dots between them."""
    if isinstance(content, float) and not math.isfinite(content):
        return "the number"
    within = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    places = ((key, _not_finite(value)) for key, value in within)
    return next((f"{key}.{place}".removesuffix(".the number") for key, place in places if place), None)


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless `folder`, which need not exist yet, can be written to and its disk has `needed` bytes."""
    there = next(path for path in [folder, *folder.absolute().parents] if os.path.exists(path))
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written to: point `work` in config.yaml at a folder of yours")
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e9:,.1f} GB left and {what} needs {needed / 1e9:,.1f} GB: "
            "free some, or point `work` in config.yaml at a larger disk"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return _digest(path, "sha256")


def file_md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    return _digest(path, "md5")


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def load_pickle(file: BinaryIO, name: str, allowed: dict[str, Callable], encoding: str = "ASCII") -> object:
    """Read a pickle without executing it.

    `allowed` maps each global that the pickle may name (`module.name`) to the function that is called instead.
    Raises UserError for any other global, and for a file that is not a pickle. Messages refer to the file as `name`.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, qualified: str) -> Callable:
            wanted = f"{module}.{qualified}"
            if wanted not in allowed:
                raise UserError(f"'{name}' asks for {wanted}, which data does not need: refused, use the official file")
            return allowed[wanted]

    try:
        return Unpickler(file, encoding=encoding).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"'{name}' is not a valid pickle: {type(error).__name__}: {error}") from error
