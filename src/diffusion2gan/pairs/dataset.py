"""The pairs (z, c, x) as a training reads them: random access to the shards of a folder (Sec. 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import of_a_pair
from diffusion2gan.pairs.prompts import read_prompts
from diffusion2gan.pairs.shards import shard_recipe, verify
from diffusion2gan.seeds import noise


@dataclass
class Pairs:
    """A batch of triples: noise z (N, C, h, w), captions c, latents x (N, C, h, w), both float32."""

    z: torch.Tensor
    captions: list[str]
    x: torch.Tensor


class PairDataset:
    """Random access to the pairs of a folder that holds `index.parquet`, `prompts.parquet` and the shards.

    Shards are memory-mapped, by each process that reads them for itself, so a DataLoader's workers may
    fork or be spawned. `index_shards` has verified them; one that has changed since is verified again on
    first touch, and UserError names it if it is damaged. With `first` these are only so many, from pair 0 on;
    raises UserError where there are fewer.
    """

    def __init__(self, folder: Path, first: int = 0):
        self.folder = Path(folder)
        self.made = self.folder / "index.parquet"
        if not self.made.exists():
            raise UserError(f"there are no pairs in {folder}: make them with snakemake -- {folder}/index.parquet")
        self.index = pd.read_parquet(self.made)
        self.captions = read_prompts(self.folder / "prompts.parquet")
        self.ends = self.index["rows"].cumsum().to_numpy()
        self.count = first or int(self.ends[-1])
        if self.count > self.ends[-1]:
            raise UserError(
                f"{folder} holds {self.ends[-1]} pairs, not the {first} asked for: make more, or ask for fewer"
            )
        self.shards: dict[int, dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict:
        return vars(self) | {"shards": {}}  # a map does not pass to another process: it would be copied whole

    def batch(self, indices: Sequence[int] | torch.Tensor) -> Pairs:
        """The pairs at `indices` (N), in their order."""
        latents, seeds, prompt_ids = self.read(indices)
        captions = self.captions.take(prompt_ids).to_pylist()
        return Pairs(noise(seeds, latents.shape[1:]), captions, latents.float())

    @property
    def evaluations(self) -> int:
        """What the teacher was evaluated for these pairs."""
        recipe = shard_recipe(self.folder / self.index["shard"][0])
        solver = recipe["scheduler"].partition(",")[0]
        return len(self) * of_a_pair(solver, recipe["steps"], recipe["guidance"])

    __getitems__ = batch  # what a DataLoader with a batch sampler asks for

    def read(self, indices: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, list[int], list[int]]:
        """What the shards hold at `indices` (N): latents fp16 (N, C, h, w), seeds, prompt ids."""
        indices = torch.as_tensor(indices).tolist()
        numbers = self.ends.searchsorted(indices, side="right").tolist()
        latents, seeds, prompt_ids = [], [], []
        for index, number in zip(indices, numbers, strict=True):
            shard = self._shard(number)
            row = index - self.ends[number]  # from the shard's end
            latents.append(shard["latents"][row])
            seeds.append(shard["seeds"][row])
            prompt_ids.append(shard["prompt_ids"][row])
        return torch.stack(latents), torch.stack(seeds).tolist(), torch.stack(prompt_ids).tolist()

    def _shard(self, number: int) -> dict[str, torch.Tensor]:
        if number not in self.shards:
            entry = self.index.iloc[number]
            path = self.folder / entry["shard"]
            if not path.exists():
                raise UserError(f"the shard {path} is missing: run again to remake it")
            if path.stat().st_mtime_ns >= self.made.stat().st_mtime_ns:
                found = verify(path)
                if found["problem"] or found["sha256"] != entry["sha256"]:
                    problem = found["problem"] or "is not the one in the index"
                    raise UserError(f"the shard {path} {problem}: delete it and run again to remake it")
            self.shards[number] = load_file(path)
        return self.shards[number]
