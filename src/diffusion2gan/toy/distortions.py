"""Synthetic 2AFC judgements, in place of BAPPS at the toy scale: OpenMoji scenes and their distortions.

The kinds of distortion are those of the traditional set of BAPPS (Zhang et al. 2018). No person judged them:
the distortion with the lower severity is preferred.
"""

import numpy as np
import torch
from scipy.ndimage import zoom

from diffusion2gan.data.bapps import Judgement
from diffusion2gan.seeds import mix
from diffusion2gan.toy.openmoji import Scenes

SPLIT_SEEDS = {"train": 3, "val": 4}


class SyntheticJudgements:
    """Endless synthetic judgements; judgement `index` depends only on (split, seed, size, index).

    A scene is distorted in two ways, and the milder distortion is preferred. In every second judgement
    both distortions are of one kind (`same-kind`), so every distance that grows with the severity agrees.
    In the others (`cross-kind`) the kinds differ, and the severities are at least `MARGIN` apart, because
    severities of two kinds can be compared only roughly.                                          # ours
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


def distort(picture: np.ndarray, kind: str, severity: float, random: np.random.Generator) -> np.ndarray:
    """An image (s, s, 3) in [0, 1], distorted by a kind of `KINDS` with a severity in [0, 1]; uint8."""
    return _uint8(KINDS[kind](picture, float(severity), random))


def _blur(picture, severity, random):
    from kornia.filters import gaussian_blur2d  # here and below, because importing kornia takes two seconds

    deviation = len(picture) / 64 * (0.4 + 1.6 * severity)
    size = 2 * round(4 * deviation) + 1
    return _array(gaussian_blur2d(_tensor(picture), size, (deviation, deviation), border_type="replicate"))


def _noise(picture, severity, random):
    return picture + random.normal(0, 0.02 + 0.12 * severity, picture.shape)


def _brightness(picture, severity, random):
    return picture + _sign(random) * (0.03 + 0.47 * severity)


def _contrast(picture, severity, random):
    factor = np.exp(_sign(random) * (0.1 + 1.1 * severity))
    return (picture - picture.mean()) * factor + picture.mean()


def _saturation(picture, severity, random):
    grey = picture.mean(2, keepdims=True)
    return grey + (picture - grey) * (1 + _sign(random) * (0.1 + 0.9 * severity))


def _shift(picture, severity, random):
    from kornia.geometry.transform import translate

    angle = random.uniform(0, 2 * np.pi)
    distance = len(picture) / 64 * (0.5 + 3.5 * severity)
    right_down = -distance * torch.tensor([[np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    return _array(translate(_tensor(picture), right_down, padding_mode="border"))


def _warp(picture, severity, random):
    from kornia.geometry.transform import remap

    field = zoom(random.normal(size=(2, 4, 4)), (1, len(picture) / 4, len(picture) / 4), order=3)
    length = np.sqrt((field**2).sum(0).mean())
    places = np.indices(picture.shape[:2]) + len(picture) / 64 * (0.4 + 2.0 * severity) / length * field
    rows, columns = torch.from_numpy(places.astype(np.float32))[:, None]
    return _array(remap(_tensor(picture), columns, rows, padding_mode="border", align_corners=True))


def _jpeg(picture, severity, random):
    from kornia.enhance import jpeg_codec_differentiable

    quality = torch.tensor([round(3 + 77 * (1 - severity) ** 2)], dtype=torch.float32)
    return _array(jpeg_codec_differentiable(_tensor(picture).clamp(0, 1), quality))


# Kinds of the same severity should look about equally strong: a viewer tolerates a change of light or a small shift
# more than blur, noise or blocks, even if it changes many pixels.                                   # ours
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


def _sign(random: np.random.Generator) -> int:
    return 2 * int(random.integers(2)) - 1


def _tensor(picture: np.ndarray) -> torch.Tensor:
    """(s, s, 3) → (1, 3, s, s) float32."""
    return torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1)[None]


def _array(tensor: torch.Tensor) -> np.ndarray:
    """(1, 3, s, s) → (s, s, 3)."""
    return tensor[0].permute(1, 2, 0).numpy()


def _uint8(picture: np.ndarray) -> np.ndarray:
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)
