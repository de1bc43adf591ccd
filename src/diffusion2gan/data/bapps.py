"""Two-alternative forced choice (2AFC): which of two distorted patches is closer to the reference?

`BAPPS` reads the human judgements of Zhang et al. 2018; a registered source brings judgements of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion2gan.data.sources import find_source, source_names
from diffusion2gan.errors import UserError


@dataclass(frozen=True)
class Judgement:
    """Three patches uint8 (size, size, 3), and the fraction of people, in [0, 1], who find p1 closer to ref than p0."""

    ref: np.ndarray
    p0: np.ndarray
    p1: np.ndarray
    judge: float
    subset: str


class BAPPS:
    """The 2AFC judgements of one split of BAPPS; patches are resized to (size, size) by bicubic interpolation.

    `folder` is the folder `2afc` of the archive: `{train,val}/{subset}/{ref,p0,p1}/*.png` and `.../judge/*.npy`.
    Raises UserError if the split has no judgements, or a file is missing or damaged.
    """

    def __init__(self, folder: Path, split: str, size: int):
        self.size = size
        self.judges = sorted(Path(folder, split).rglob("judge/*.npy"))
        if not self.judges:
            raise UserError(
                f"no judgements in {folder}/{split}/*/judge: set `judgements` to {source_names()}, or to the folder "
                "`2afc` of BAPPS (6.6 GB, https://github.com/richzhang/PerceptualSimilarity)"
            )

    def __len__(self) -> int:
        return len(self.judges)

    def __getitem__(self, index: int) -> Judgement:
        judge = self.judges[index]
        subset = judge.parents[1]
        patches = (self._patch(subset / role / f"{judge.stem}.png") for role in ("ref", "p0", "p1"))
        return Judgement(*patches, _share(judge), subset.name)

    def _patch(self, path: Path) -> np.ndarray:
        try:
            patch = Image.open(path).convert("RGB")
        except OSError as error:
            raise UserError(f"BAPPS is incomplete: {path} cannot be read ({error})") from error
        return np.asarray(patch.resize((self.size, self.size), Image.Resampling.BICUBIC))


def _share(path: Path) -> float:
    try:
        share = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"the judgement {path} cannot be read: {error}") from error
    if share.size != 1 or not 0 <= share.item() <= 1:
        raise UserError(f"the judgement {path} must be one fraction in [0, 1], and has the shape {share.shape}")
    return float(share.item())


def judgements(source: str, split: str, seed: int, size: int) -> Sequence[Judgement]:
    """The judgements of a registered source, or of the BAPPS folder `source`."""
    registered = find_source(source)
    return registered.judgements(split, size, seed) if registered else BAPPS(Path(source), split, size)
