"""Two-alternative forced choice (2AFC): which of two distorted patches is closer to the reference?

`BAPPS` reads the human judgements of Zhang et al. 2018. `SyntheticJudgements` stands in for them at
the toy scale: OpenMoji scenes distorted by the kinds of BAPPS' traditional set, judged not by people
but by the severity that each distortion was made with.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import map_coordinates, zoom

from diffusion2gan.data.sources import find_source, source_names
from diffusion2gan.errors import UserError
from diffusion2gan.seeds import mix
from diffusion2gan.toy.openmoji import Scenes

SPLIT_SEEDS = {"train": 3, "val": 4}


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


class SyntheticJudgements:
    """Made-up judgements without end; judgement `index` depends on (split, seed, size, index) alone.

    A scene is distorted in two ways, and the milder distortion is preferred. In every second judgement
    both are of one kind (`same-kind`), where any distance is right that grows with the distortion; in the
    others (`cross-kind`) the kinds differ and the severities are at least `MARGIN` apart, since those of
    two kinds compare roughly at best.                                                             # ours
    """

    MARGIN = 0.25

    def __init__(self, split: str, seed: int, size: int):
        self.seed = mix(seed, SPLIT_SEEDS[split])
        self.scenes = Scenes("all", self.seed, size)

    def __getitem__(self, index: int) -> Judgement:
        random = np.random.default_rng([self.seed, index, 1])
        kinds = list(KINDS)
        if index % 2:
            names = random.choice(kinds, 2, replace=False)
            milder = random.uniform(0, 1 - self.MARGIN)
            severities = milder, random.uniform(milder + self.MARGIN, 1)
        else:
            names = [random.choice(kinds)] * 2
            severities = sorted(random.uniform(size=2))
        ref = self.scenes[index].image
        picture = ref / np.float32(255)
        p0, p1 = (distort(picture, name, s, random) for name, s in zip(names, severities, strict=True))
        judge = float(random.integers(2))
        if judge:
            p0, p1 = p1, p0
        return Judgement(ref, p0, p1, judge, "cross-kind" if index % 2 else "same-kind")


def judgements(source: str, split: str, seed: int, size: int) -> BAPPS | SyntheticJudgements:
    """The judgements of a registered source, or of the BAPPS folder `source`."""
    registered = find_source(source)
    return registered.judgements(split, size, seed) if registered else BAPPS(Path(source), split, size)


def distort(picture: np.ndarray, kind: str, severity: float, random: np.random.Generator) -> np.ndarray:
    """A picture (s, s, 3) in [0, 1], distorted by a kind of `KINDS` with a severity in [0, 1]; uint8."""
    return _uint8(KINDS[kind](picture, float(severity), random))


def _blur(picture, severity, random):
    radius = len(picture) / 64 * (0.4 + 1.6 * severity)
    return np.asarray(Image.fromarray(_uint8(picture)).filter(ImageFilter.GaussianBlur(radius))) / 255


def _noise(picture, severity, random):
    return picture + random.normal(0, 0.02 + 0.12 * severity, picture.shape)


def _brightness(picture, severity, random):
    return picture + _either(random) * (0.03 + 0.47 * severity)


def _contrast(picture, severity, random):
    factor = np.exp(_either(random) * (0.1 + 1.1 * severity))
    return (picture - picture.mean()) * factor + picture.mean()


def _saturation(picture, severity, random):
    grey = picture.mean(2, keepdims=True)
    return grey + (picture - grey) * (1 + _either(random) * (0.1 + 0.9 * severity))


def _shift(picture, severity, random):
    angle = random.uniform(0, 2 * np.pi)
    distance = len(picture) / 64 * (0.5 + 3.5 * severity)
    return _displaced(picture, distance * np.array([np.cos(angle), np.sin(angle)])[:, None, None])


def _warp(picture, severity, random):
    field = zoom(random.normal(size=(2, 4, 4)), (1, len(picture) / 4, len(picture) / 4), order=3)
    length = np.sqrt((field**2).sum(0).mean())
    return _displaced(picture, len(picture) / 64 * (0.4 + 2.0 * severity) / length * field)


def _jpeg(picture, severity, random):
    file = io.BytesIO()
    Image.fromarray(_uint8(picture)).save(file, "JPEG", quality=round(3 + 77 * (1 - severity) ** 2))
    return np.asarray(Image.open(file)) / 255


# Strengths that look about alike at one severity: a change of light or a small shift is forgiven sooner
# than blur, noise or blocks, however many pixels it changes.                                   # ours
KINDS = {
    "blur": _blur,
    "noise": _noise,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "shift": _shift,
    "warp": _warp,
    "jpeg": _jpeg,
}


def _displaced(picture: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The picture read at places moved by (down, right) pixels, bilinearly, its edge repeated outside."""
    places = np.indices(picture.shape[:2]) + field
    channels = [map_coordinates(channel, places, order=1, mode="nearest") for channel in picture.transpose(2, 0, 1)]
    return np.stack(channels, 2)


def _either(random: np.random.Generator) -> int:
    return 2 * int(random.integers(2)) - 1


def _uint8(picture: np.ndarray) -> np.ndarray:
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)
