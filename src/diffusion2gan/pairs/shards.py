"""The ODE-pair dataset: write, verify, index, read (Sec. 3.1).

A shard is one safetensors file of `latents` fp16 (N, C, h, w), `seeds` int64 (N) and `prompt_ids`
int64 (N). The noise is not stored: `noise` draws it again from its seed. Pair i of a
dataset has seed `mix(dataset seed, i)` and prompt i modulo the number of prompts, so that the pairs
do not depend on how they are cut into shards. A shard's metadata hold its recipe, the number of its
first pair and the checksum of its tensors.
"""

import fcntl
import hashlib
import json
import math
import os
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
from diffusion2gan.io import atomic, sha256
from diffusion2gan.seeds import mix

NOISE = "numpy default_rng(seed).standard_normal, float32"  # as `noise` draws it


def pair_seeds(pairs: Sequence[int], seed: int) -> list[int]:
    """The noise seeds of pairs."""
    return [mix(seed, pair) for pair in pairs]


class Unfinished:
    """The finished batches of a shard in the making, in a file beside it that outlives a killed job.

    It starts with the checksum of what the latents depend on; a batch is its SHA-256 and its fp16
    latents, so a batch that was cut short, or that a crash left as zeros, is not taken for finished.
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
            if len(content) != 2 * size * math.prod(shape) or hashlib.sha256(content).digest() != digest:
                break
            self.batches.append(torch.frombuffer(bytearray(content), dtype=torch.float16).view(size, *shape))
            end = file.tell()
        file.seek(end)
        file.truncate()

    def append(self, latents: torch.Tensor) -> None:
        """Keep the latents of the next batch."""
        batch = latents.to("cpu", torch.float16).contiguous()
        content = batch.numpy().tobytes()
        self._append(hashlib.sha256(content).digest() + content)
        self.batches.append(batch)

    def _append(self, content: bytes) -> None:
        self.file.write(content)
        self.file.flush()
        os.fsync(self.file.fileno())


@contextmanager
def unfinished(path: Path, settings: dict, sizes: Sequence[int], shape: Sequence[int]) -> Iterator[Unfinished]:
    """The finished batches of the shard `path`: of the given sizes, under the same settings; gone once it is written.

    Raises UserError while another process is making this shard.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.unfinished")
    with open(beside, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is making {path}: wait for it, or end it") from error
        for abandoned in path.parent.glob(f".{path.name}.*.tmp"):  # what a killed job was writing: we have the lock
            abandoned.unlink()
        file.seek(0)
        yield Unfinished(file, settings, sizes, shape)
        beside.unlink()


def write_shard(
    path: Path, latents: torch.Tensor, seeds: Sequence[int], prompt_ids: Sequence[int], first: int, recipe: dict
) -> None:
    """Write one shard, atomically; `first` is the number of its first pair. Equal pairs make equal bytes."""
    tensors = {
        "latents": latents.to(torch.float16).contiguous(),
        "seeds": torch.tensor(seeds, dtype=torch.int64),
        "prompt_ids": torch.tensor(prompt_ids, dtype=torch.int64),
    }
    about = {"recipe": recipe, "first": first, "sha256": _digest(tensors)}
    with atomic(path) as temporary:
        # one key: safetensors writes several in random order
        save_file(tensors, temporary, metadata={"pairs": json.dumps(about, sort_keys=True)})


def index_shards(paths: Sequence[Path], prompts: Path) -> pd.DataFrame:
    """Verify every shard, in the order of their pairs; one row each: `shard`, `rows`, `sha256` (of its tensors).

    Raises UserError that names every shard which is damaged, was made otherwise than most, or does not
    go on where the one before it ends.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as readers:
        found = list(readers.map(verify, paths))
    usual = Counter(shard["recipe"] for shard in found).most_common(1)[0][0]
    wrong, end = [], 0
    for shard in found:
        problem = shard["problem"]
        if not problem and shard["recipe"] != usual:
            problem = "was made under other settings than most"
        if not problem and end not in (shard["first"], None):
            problem = f"starts with pair {shard['first']} and not with {end}"
        if problem:
            wrong.append(f"{shard['shard']} {problem}")
        end = None if shard["problem"] else shard["first"] + shard["rows"]
    if wrong:
        raise UserError(f"{paths[0].parent}: {'; '.join(wrong)}: delete what is named and run again to remake it")
    if json.loads(usual)["prompts_sha256"] != sha256(prompts):
        raise UserError(f"the shards in {paths[0].parent} were made from other prompts than {prompts}: delete them")
    return pd.DataFrame(found)[["shard", "rows", "sha256"]]


def shard_recipe(path: Path) -> dict:
    """How the pairs of a shard were made."""
    with safe_open(path, "pt") as shard:
        return json.loads(shard.metadata()["pairs"])["recipe"]


def verify(path: Path) -> dict:
    """What a shard says of itself (`shard`, `recipe`, `first`, `rows`, `sha256`), and as `problem` what is wrong."""
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
    """Checksum of a shard's tensors; their names, kinds and shapes are in it."""
    digest = hashlib.sha256()
    for name in ("latents", "seeds", "prompt_ids"):
        each = tensors[name].numpy()
        digest.update(f"{name} {each.dtype} {each.shape};".encode())
        digest.update(memoryview(each).cast("B"))
    return digest.hexdigest()
