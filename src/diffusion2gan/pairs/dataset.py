"""The dataset of pairs (z, c, x) that a training reads: random access to the shards of a folder (Sec. 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import evaluations_per_pair
from diffusion2gan.pairs.parquet import read_columns
from diffusion2gan.pairs.prompts import read_prompts
from diffusion2gan.pairs.shards import read_shard, shard_recipe, verify
from diffusion2gan.seeds import noise


@dataclass
class Pairs:
    """A batch of pairs: noise z (N, C, h, w), N captions, latents x (N, C, h, w); z and x are float32."""

    z: torch.Tensor
    captions: list[str]
    x: torch.Tensor


class PairDataset:
    """Random access to the pairs of a folder with `index.parquet`, `prompts.parquet` and the shards.

    Each process memory-maps the shards for itself, so DataLoader workers may fork or spawn. `index_shards` has
    verified the shards; one that changed since is verified again when it is first read. `first` limits the dataset to
    its first pairs; 0 means all. The last `held_out` pairs of the folder are not part of the dataset: a training
    measures its error on them. The attribute `held_out` has their indices, which `batch` also accepts.
    Raises UserError if there are no pairs or fewer than requested, and when a missing or damaged shard is read.
    """

    def __init__(self, folder: Path, first: int = 0, held_out: int = 0):
        self.folder = Path(folder)
        self.index_file = self.folder / "index.parquet"
        if not self.index_file.exists():
            raise UserError(
                f"there are no pairs in {folder}: make them with `snakemake --cores all -- {folder}/index.parquet`"
            )
        remake = "delete it and run again to remake it"
        kinds = {"shard": str, "rows": int, "sha256": str}
        self.index = read_columns(self.index_file, kinds, remake).to_pandas(ignore_metadata=True)
        if (self.index["rows"] < 1).any():
            raise UserError(f"{self.index_file} has a shard without pairs: {remake}")
        self.captions = read_prompts(self.folder / "prompts.parquet")
        self.ends = self.index["rows"].cumsum().to_numpy()
        found = int(self.ends[-1])
        self.count = first or max(1, found - held_out)
        self.held_out = range(found - held_out, found)
        if self.count + held_out > found:
            more = f" and the {held_out} to hold out" if held_out else ""
            raise UserError(
                f"{folder} holds {found} pairs, not the {self.count} requested{more}: make more, or request fewer"
            )
        self.shards: dict[int, dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict:
        return vars(self) | {"shards": {}}  # pickling a memory map would copy all of it

    def batch(self, indices: Sequence[int] | torch.Tensor) -> Pairs:
        """The pairs at `indices` (N,), in that order."""
        latents, seeds, prompt_ids = self.read_shards(indices)
        captions = self.captions.take(prompt_ids).to_pylist()
        return Pairs(noise(seeds, latents.shape[1:]), captions, latents.float())

    @property
    def evaluations(self) -> int:
        """Teacher evaluations that these pairs cost. Raises UserError if the first shard does not say how."""
        path = self.folder / self.index["shard"][0]
        recipe = shard_recipe(path)
        solver, steps, guidance = (recipe.get(name) for name in ("scheduler", "steps", "guidance"))
        if not (isinstance(solver, str) and isinstance(steps, int) and isinstance(guidance, int | float)):
            raise UserError(f"the recipe of {path} lacks its scheduler, steps or guidance: delete it and run again")
        return len(self) * evaluations_per_pair(solver.partition(",")[0], steps, guidance)

    __getitems__ = batch  # called by a DataLoader with a batch sampler

    def read_shards(self, indices: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, list[int], list[int]]:
        """The stored data of the pairs at `indices` (N,): latents fp16 (N, C, h, w), N seeds, N prompt ids."""
        indices = torch.as_tensor(indices).tolist()
        numbers = self.ends.searchsorted(indices, side="right").tolist()
        latents, seeds, prompt_ids = [], [], []
        for index, number in zip(indices, numbers, strict=True):
            shard = self._shard(number)
            row = index - self.ends[number]  # negative: from the end of the shard
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
            if path.stat().st_mtime_ns >= self.index_file.stat().st_mtime_ns:
                found = verify(path)
                if found["problem"] or found["sha256"] != entry["sha256"]:
                    problem = found["problem"] or "is not the one in the index"
                    raise UserError(f"the shard {path} {problem}: delete it and run again to remake it")
            self.shards[number] = shard = read_shard(path)
            ids = shard["prompt_ids"]
            if len(ids) != entry["rows"] or ids.min() < 0 or ids.max() >= len(self.captions):
                raise UserError(f"the shard {path} does not fit {self.index_file.name} and prompts.parquet: delete it")
        return self.shards[number]
