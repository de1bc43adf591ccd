"""Two-alternative forced choice (2AFC): which of two distorted patches is closer to the reference?

`BAPPS` reads the human judgements of Zhang et al. 2018; a registered source brings judgements of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from diffusion2gan.data.sources import find_source, source_names
from diffusion2gan.errors import UserError
from diffusion2gan.images import open_image
from diffusion2gan.io import data_files, data_folders

ROLES = {"ref": ".png", "p0": ".png", "p1": ".png", "judge": ".npy"}


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
    Hidden files and folders are left out. Raises UserError if the split has no judgements, if a judgement lacks one of
    its patches or patches lack their judgement, or if a file is damaged.
    """

    def __init__(self, folder: Path, split: str, size: int):
        self.size, self.judges = size, []
        for subset in (Path(folder, split, name) for name in data_folders(Path(folder, split))):
            files = {role: data_files(subset / role, {suffix}) for role, suffix in ROLES.items()}
            names = {role: {file.stem for file in found} for role, found in files.items()}
            for role in ROLES:
                if lacking := set.union(*names.values()) - names[role]:
                    lost = f"{subset}/{role} lacks {len(lacking):,} files, the first is {min(lacking)}{ROLES[role]}"
                    raise UserError(f"BAPPS is incomplete: {lost}: unpack it again")
            self.judges += files["judge"]
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
        return np.asarray(open_image(path).resize((self.size, self.size), Image.Resampling.BICUBIC))


def _share(path: Path) -> float:
    try:
        share = np.load(path, allow_pickle=False).astype(float, casting="same_kind")
    except (OSError, ValueError, TypeError, EOFError, AttributeError, BadZipFile) as error:  # an .npz has no astype
        raise UserError(f"the judgement {path} cannot be read ({error!r}): unpack BAPPS again") from error
    if share.size != 1 or not 0 <= share.item() <= 1:
        raise UserError(f"the judgement {path} must be one fraction in [0, 1], and has the shape {share.shape}")
    return share.item()


def judgements(source: str, split: str, seed: int, size: int) -> Sequence[Judgement]:
    """The judgements of a registered source, or of the BAPPS folder `source`."""
    registered = find_source(source)
    return registered.judgements(split, size, seed) if registered else BAPPS(Path(source), split, size)
