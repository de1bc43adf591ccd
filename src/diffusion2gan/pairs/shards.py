"""The shards of the ODE-pair dataset: format, writing with resume, verification (Sec. 3.1).

A shard is a safetensors file with `latents` fp16 (N, C, h, w), `seeds` int64 (N,) and `prompt_ids` int64 (N,). The
noise is not stored, because `noise` makes it again from its seed. Pair i of a dataset has the seed
`mix(dataset seed, i)` and the prompt i modulo the number of prompts, so the pairs do not depend on the number of
shards. The metadata of a shard hold its recipe, the index of its first pair and the checksum of its tensors.
"""

import fcntl
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from diffusion2gan.errors import UserError
from diffusion2gan.io import LACKING, atomic, file_sha256, fsync, reading
from diffusion2gan.seeds import mix

NOISE = "numpy default_rng(seed).standard_normal, float32"  # by `seeds.noise`


def pair_seeds(pairs: Sequence[int], seed: int) -> list[int]:
    """The noise seed of each pair."""
    return [mix(seed, pair) for pair in pairs]


class Unfinished:
    """The finished batches of an unfinished shard, in a file that survives a killed job.

    The file starts with the checksum of the settings that the latents depend on. A batch is stored as the SHA-256 of
    its number and its fp16 latents, and these latents. So a batch that is truncated, that a crash left as zeros, or
    that two processes without a lock wrote twice does not count as finished.
    """

    def __init__(self, file, settings: dict, sizes: Sequence[int], shape: Sequence[int]):
        self.file, self.shape, self.batches = file, tuple(shape), []
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).digest()
        if file.read(len(key)) != key:
            file.seek(0)
            file.truncate()
            self._append(key)
        end = file.tell()
        for size in sizes:
            digest, content = file.read(32), file.read(2 * size * math.prod(shape))
            if len(content) != 2 * size * math.prod(shape) or self._digest(content) != digest:
                break
            self.batches.append(torch.frombuffer(bytearray(content), dtype=torch.float16).view(size, *shape))
            end = file.tell()
        file.seek(end)
        file.truncate()

    def append(self, latents: torch.Tensor) -> None:
        """Store the latents of the next batch."""
        batch = latents.to("cpu", torch.float16).contiguous()
        content = batch.numpy().tobytes()
        self._append(self._digest(content) + content)
        self.batches.append(batch)

    def _digest(self, content: bytes) -> bytes:
        """The checksum of the next batch."""
        return hashlib.sha256(len(self.batches).to_bytes(8) + content).digest()

    def _append(self, content: bytes) -> None:
        self.file.write(content)
        self.file.flush()
        fsync(self.file)


@contextmanager
def unfinished(path: Path, settings: dict, sizes: Sequence[int], shape: Sequence[int]) -> Iterator[Unfinished]:
    """Open the finished batches of the shard `path`, made with the same settings and batch `sizes`.

    Their file is removed when the block ends without an error. Raises UserError if another process is making this
    shard. A disk without locks cannot tell: both processes then make the same whole shard.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.unfinished")
    with open(beside, "a+b") as file:
        if _lock(file, path):
            for abandoned in path.parent.glob(f".{path.name}.*.tmp"):  # left by a killed job: we hold the lock
                abandoned.unlink()
        file.seek(0)
        yield Unfinished(file, settings, sizes, shape)
        beside.unlink(missing_ok=True)  # without a lock, another process may have removed it


def _lock(file, path: Path) -> bool:
    """Lock a file for this process; False, with a warning, if its disk has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another process is making {path}: wait for it, or end it") from error
    except OSError as error:
        if error.errno not in LACKING:
            raise
        print(
            f"warning: the disk of {path.parent} has no locks ({error.strerror}): make each shard in one process only",
            file=sys.stderr,
        )
        return False
    return True


def write_shard(
    path: Path, latents: torch.Tensor, seeds: Sequence[int], prompt_ids: Sequence[int], first: int, recipe: dict
) -> None:
    """Write a shard atomically; `first` is the index of its first pair. Equal pairs give equal bytes."""
    tensors = {
        "latents": latents.to(torch.float16).contiguous(),
        "seeds": torch.tensor(seeds, dtype=torch.int64),
        "prompt_ids": torch.tensor(prompt_ids, dtype=torch.int64),
    }
    about = {"recipe": recipe, "first": first, "sha256": _digest(tensors)}
    with atomic(path) as temporary:
        # one key, because safetensors writes several in random order
        save_file(tensors, temporary, metadata={"pairs": json.dumps(about, sort_keys=True)})


def index_shards(paths: Sequence[Path], prompts: Path) -> pd.DataFrame:
    """Verify all shards, given in the order of their pairs; one row per shard: `shard`, `rows`, `sha256`.

    Raises UserError with the names of all shards that are damaged, have another recipe than most, or do not start
    where the previous shard ends.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as readers:
        found = list(readers.map(verify, paths))
    usual = Counter(shard["recipe"] for shard in found).most_common(1)[0][0]
    wrong, end = [], 0
    for shard in found:
        problem = shard["problem"]
        if not problem and shard["recipe"] != usual:
            problem = "was made with other settings than most"
        if not problem and end not in (shard["first"], None):
            problem = f"starts with pair {shard['first']} and not with {end}"
        if problem:
            wrong.append(f"{shard['shard']} {problem}")
        end = None if shard["problem"] else shard["first"] + shard["rows"]
    if wrong:
        raise UserError(f"{paths[0].parent}: {'; '.join(wrong)}: delete these shards and run again")
    if json.loads(usual)["prompts_sha256"] != file_sha256(prompts):
        raise UserError(f"the shards in {paths[0].parent} were made from other prompts than {prompts}: delete them")
    return pd.DataFrame(found)[["shard", "rows", "sha256"]]


def shard_recipe(path: Path) -> dict:
    """The recipe that the pairs of a shard were made with. Raises UserError if it cannot be read."""
    with reading(path), safe_open(path, "pt") as shard:
        return json.loads(shard.metadata()["pairs"])["recipe"]


def verify(path: Path) -> dict:
    """Read and check a shard: its `shard` name, `recipe`, `first`, `rows`, `sha256`, and `problem` (None if sound)."""
    found = {"shard": path.name, "recipe": None, "first": None, "rows": None, "sha256": None, "problem": None}
    try:
        with safe_open(path, "pt") as shard:
            about = json.loads(shard.metadata()["pairs"])
        tensors = load_file(path)
        latents = tensors["latents"]
        found |= {"recipe": json.dumps(about["recipe"], sort_keys=True), "first": about["first"]}
        found |= {"rows": len(tensors["seeds"]), "sha256": about["sha256"]}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        return found | {"problem": f"is damaged ({error})"}
    if _digest(tensors) != about["sha256"]:
        return found | {"problem": "is damaged (its checksum differs)"}
    if not (latents.max().isfinite() and latents.min().isfinite()):
        return found | {"problem": "holds latents that are not finite"}
    return found


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a shard's tensors with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for name in ("latents", "seeds", "prompt_ids"):
        each = tensors[name].numpy()
        digest.update(f"{name} {each.dtype} {each.shape};".encode())
        digest.update(memoryview(each).cast("B"))
    return digest.hexdigest()
