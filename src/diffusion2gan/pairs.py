"""The ODE-pair dataset: write, verify, index, read (Sec. 3.1).

A shard is one safetensors file of `latents` fp16 (N, C, h, w), `seeds` int64 (N) and `prompt_ids`
int64 (N). The noise is not stored: `teacher.noise` draws it again from its seed. Pair i of a
dataset has seed `mix(dataset seed, i)` and prompt i modulo the number of prompts, so that the pairs
do not depend on how they are cut into shards.
"""

import hashlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from diffusion2gan.errors import UserError
from diffusion2gan.teacher import noise
from diffusion2gan.training.checkpoint import atomic
from diffusion2gan.training.data_order import mix


@dataclass
class Pairs:
    """A batch of triples: noise z (N, C, h, w), captions c, latents x (N, C, h, w), both float32."""

    z: torch.Tensor
    captions: list[str]
    x: torch.Tensor


def shard_range(shard: int, shards: int, count: int) -> range:
    """The pairs of one shard: `count` pairs in `shards` nearly equal, contiguous parts."""
    return range(count * shard // shards, count * (shard + 1) // shards)


def pair_seeds(pairs: Sequence[int], seed: int) -> list[int]:
    """The noise seeds of pairs."""
    return [mix(seed, pair) for pair in pairs]


def check_disk(folder: Path, count: int, shape: tuple[int, ...]) -> None:
    """Raise UserError unless `folder` has room for `count` latents of a shape."""
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = count * (2 * math.prod(shape) + 16), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e9:.1f} GB left and this shard needs {needed / 1e9:.1f} GB: "
            "free some, or point `work` in config.yaml at a larger disk"
        )


def write_shard(
    path: Path, latents: torch.Tensor, seeds: Sequence[int], prompt_ids: Sequence[int], metadata: dict[str, str]
) -> None:
    """Write one shard, atomically."""
    tensors = {
        "latents": latents.to(torch.float16).contiguous(),
        "seeds": torch.tensor(seeds, dtype=torch.int64),
        "prompt_ids": torch.tensor(prompt_ids, dtype=torch.int64),
    }
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def sha256(path: Path) -> str:
    """Checksum of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def index_shards(paths: Sequence[Path], prompts: Path) -> pd.DataFrame:
    """Verify every shard; one row each: `shard`, `rows`, `sha256`.

    Raises UserError when a shard cannot be read, is not finite, or was made otherwise than the first.
    """
    rows, first = [], None
    for path in paths:
        try:
            with safe_open(path, "pt") as shard:
                metadata = shard.metadata()
                latents, ids = shard.get_tensor("latents"), shard.get_tensor("prompt_ids")
        except (SafetensorError, OSError) as error:
            raise UserError(f"the shard {path} is damaged ({error}): delete it and run again to remake it") from error
        first = first or metadata
        if metadata != first or metadata["prompts_sha256"] != sha256(prompts):
            raise UserError(f"the shard {path} was made under other settings: delete it and run again to remake it")
        if not latents.isfinite().all():
            raise UserError(f"the shard {path} holds latents that are not finite: delete it and run again")
        rows.append({"shard": path.name, "rows": len(ids), "sha256": sha256(path)})
    return pd.DataFrame(rows)


class PairDataset:
    """Random access to the pairs of a folder that holds `index.parquet`, `prompts.parquet` and the shards.

    Shards are memory-mapped and verified on first touch; UserError names the one that is damaged.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not (self.folder / "index.parquet").exists():
            raise UserError(f"there are no pairs in {folder}: make them with snakemake -- {folder}/index.parquet")
        self.index = pd.read_parquet(self.folder / "index.parquet")
        prompts = pd.read_parquet(self.folder / "prompts.parquet")
        self.captions = dict(zip(prompts["prompt_id"], prompts["caption"], strict=True))
        self.ends = self.index["rows"].cumsum().to_numpy()
        self.shards: dict[int, dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, indices: torch.Tensor) -> Pairs:
        """The pairs at `indices` (N), in their order."""
        latents, seeds, captions = [], [], []
        for index in indices.tolist():
            number = int(self.ends.searchsorted(index, side="right"))
            shard = self._shard(number)
            row = index - (self.ends[number] - len(shard["seeds"]))
            latents.append(shard["latents"][row])
            seeds.append(int(shard["seeds"][row]))
            captions.append(self.captions[int(shard["prompt_ids"][row])])
        x = torch.stack(latents).float()
        return Pairs(noise(seeds, x.shape[1:]), captions, x)

    def _shard(self, number: int) -> dict[str, torch.Tensor]:
        if number not in self.shards:
            entry = self.index.iloc[number]
            path = self.folder / entry["shard"]
            if not path.exists() or sha256(path) != entry["sha256"]:
                raise UserError(f"the shard {path} is damaged or missing: delete it and run again to remake it")
            self.shards[number] = load_file(path)
        return self.shards[number]
