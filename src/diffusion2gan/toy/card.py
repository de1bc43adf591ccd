"""The card of the shipped toy assets: what they were trained on, and how good they are, measured."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.metrics.clip_score import CLIP, clip_score, scene_classes, scene_top1
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.fid import fid
from diffusion2gan.pixel import cifar10
from diffusion2gan.pixel.model import PixelTeacher
from diffusion2gan.progress import track
from diffusion2gan.report.figures import STYLE
from diffusion2gan.seeds import mix, noise
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import ATTRIBUTION, EMOJI, GROUNDS, Prompt, Scenes

BATCH = 64
PIXEL_FEATURES = 64  # side at which features of 32 × 32 pictures are taken
_UNSEEN = 0x43415244  # scenes and noises that no training and no table uses

ASSETS = f"""# The toy assets

Small networks trained by this project on OpenMoji scenes, so that the toy scale starts from a teacher \
as the paper does. `snakemake --cores 2 -- assets` trains them again from nothing.

* `teacher/`: a `StableDiffusionPipeline` (codec, text encoder, v-predicting U-Net)
* `clip/`: the open_clip model that scores image and text; trained on other seeds, with its own text tower
* `vgg-latent.safetensors`, `vgg-pixel.safetensors`: the trunks of the perceptual losses
* `edm/`: the teacher of Table 6, in pixels and without text, with a card of its own

{ATTRIBUTION}

## Measured

On unseen scenes, with the shipped half-precision weights. FID is in the EfficientNet-Lite0 feature space; \
top-1 is the CLIP's zero-shot answer."""

EDM = f"""# The toy EDM teacher

A small EDM denoiser (`diffusion2gan.networks.edm.EDM`) of 32 × 32 OpenMoji scenes, in place of EDM's of \
CIFAR-10 in Table 6. `snakemake --cores 2 -- assets` trains it again from nothing. It is small and was \
trained briefly: its pictures have the grounds and the outlines of scenes rather than what they show.

{ATTRIBUTION}

## Measured

With the shipped half-precision weights. FID is in the EfficientNet-Lite0 feature space at \
{PIXEL_FEATURES} × {PIXEL_FEATURES} pixels; `real_fid` compares two sets of real scenes."""


class Drawn(list):
    """Pictures in memory, uint8 (H, W, 3), as the metrics take them."""

    def batches(self, size: int) -> Iterator[list[np.ndarray]]:
        """The pictures in lists of `size`."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


def measure(teacher: Teacher, clip: CLIP, features: Features, count: int, steps: int, guidance: float) -> dict:
    """Numbers on `count` unseen scenes: codec, teacher, and the same for real pictures as the ceiling.

    `reconstruction_fid` is the floor of every toy table; `real_fid` compares two sets of real scenes
    and says how much of a FID is its bias for few pictures.
    """
    real, other = _scenes(_UNSEEN, count), _scenes(_UNSEEN + 1, count)
    captions = [scene.prompt.caption for scene in real]
    pictures = {
        "real": Drawn([scene.image for scene in real]),
        "reconstruction": Drawn(_reconstruct(teacher, [scene.image for scene in real])),
        "teacher": Drawn(_draw(teacher, captions, steps, guidance)),
    }
    error = (np.stack(pictures["real"]).astype(np.float64) - np.stack(pictures["reconstruction"])) ** 2
    numbers = {
        "scenes": count,
        "ddim_steps": steps,
        "guidance": guidance,
        "psnr_db": float((10 * np.log10(255**2 / error.mean((1, 2, 3)))).mean()),
    }
    reference = features(pictures["real"])
    text = clip.captions(captions)
    for name, drawn in pictures.items():
        compared = Drawn([scene.image for scene in other]) if name == "real" else drawn
        numbers[f"{name}_fid"] = fid(features(compared), reference)
        vectors = clip.pictures(drawn)
        numbers[f"{name}_clip_score"] = clip_score(vectors, text)
        numbers |= {f"{name}_{key}": value for key, value in scene_top1(clip, vectors, captions).items()}
    return numbers


def recognised(teacher: Teacher, clip: CLIP, steps: int, guidance: float) -> dict:
    """How many emoji and grounds the teacher draws so that CLIP names most of their samples right."""
    prompts = [scene.prompt for scene in _scenes(_UNSEEN + 2, 12 * len(EMOJI))]
    captions = [prompt.caption for prompt in prompts]
    named = scene_classes(clip, clip.pictures(Drawn(_draw(teacher, captions, steps, guidance))))
    table = pd.DataFrame([vars(prompt) for prompt in prompts])
    counts = {}
    for part, known in (("emoji", EMOJI), ("ground", GROUNDS)):
        right = (named[part].numpy() == table[part]).groupby(table[part]).mean()
        counts[f"{part}_recognised"] = f"{int((right > 0.5).sum())} of {len(known)}"
    return counts


def samples_figure(teacher: Teacher, steps: int, guidance: float, rows: int = 8, columns: int = 16) -> Figure:
    """One sample of each emoji, on grounds in turn."""
    captions = [Prompt(emoji, emoji % len(GROUNDS)).caption for emoji in range(rows * columns)]
    return sheet(_draw(teacher, captions, steps, guidance), rows, columns)


def sheet(drawn: np.ndarray, rows: int, columns: int) -> Figure:
    """Pictures uint8 (rows · columns, H, W, 3) side by side."""
    sheet = drawn.reshape(rows, columns, *drawn.shape[1:]).transpose(0, 2, 1, 3, 4)
    figure = Figure(figsize=(columns * 0.6, rows * 0.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet.reshape(rows * drawn.shape[1], columns * drawn.shape[2], 3))
    axes.set_axis_off()
    return figure


def losses_figure(histories: dict[str, pd.DataFrame]) -> Figure:
    """The training loss of every network against its step, log scale."""
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(2.2 * len(histories), 2), layout="constrained")
        plots = figure.subplots(1, len(histories), squeeze=False)[0]
        for axes, (name, history) in zip(plots, histories.items(), strict=True):
            axes.plot(history["step"], history["loss"], alpha=0.3)
            axes.plot(history["step"], history["loss"].rolling(20, min_periods=1).mean())
            axes.set(title=name, xlabel="step", yscale="log")
    return figure


def write(path: Path, text: str, numbers: dict, pictures: str) -> None:
    """The card as Markdown: what was trained, every measured number, pictures; the numbers also as JSON beside it."""
    rows = "\n".join(f"| {name} | {_show(value)} |" for name, value in numbers.items())
    path.write_text(f"{text}\n\n| | |\n|---|---|\n{rows}\n\n{pictures}\n", encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def draw_pixels(teacher: PixelTeacher, count: int, steps: int) -> np.ndarray:
    """Pictures uint8 (count, H, W, 3) of a teacher in pixels, from noises that no table uses."""
    drawn = []
    for first in track(range(0, count, BATCH), "drawing"):
        seeds = [mix(_UNSEEN, i) for i in range(first, min(first + BATCH, count))]
        drawn.append(to_uint8(teacher.solve(noise(seeds, teacher.latent_shape), [], steps)))
    return np.concatenate(drawn)


def measure_pixels(pictures: np.ndarray, features: Features) -> dict:
    """FID of pictures to as many unseen scenes, and as the floor that of other scenes to these."""
    reference, other = (Drawn(cifar10.pictures("openmoji", len(pictures), _UNSEEN + i)) for i in (0, 1))
    of_reference = features(reference)
    drawn = {"real": other, "teacher": Drawn(pictures)}
    return {"pictures": len(pictures)} | {
        f"{name}_fid": fid(features(each), of_reference) for name, each in drawn.items()
    }


def _scenes(seed: int, count: int) -> list:
    scenes = Scenes("all", seed, toy.PICTURE)
    return [scenes[i] for i in range(count)]


@torch.no_grad()
def _reconstruct(teacher: Teacher, pictures: Sequence[np.ndarray]) -> np.ndarray:
    batches = to_tensor(pictures).split(BATCH)
    return np.concatenate([to_uint8(teacher.decode(teacher.encode_images(batch))) for batch in batches])


@torch.no_grad()
def _draw(teacher: Teacher, captions: Sequence[str], steps: int, guidance: float) -> np.ndarray:
    drawn = []
    for first in track(range(0, len(captions), BATCH), "drawing"):
        texts = captions[first : first + BATCH]
        z = noise([mix(_UNSEEN, first + i) for i in range(len(texts))], teacher.latent_shape)
        drawn.append(to_uint8(teacher.decode(teacher.solve(z, texts, steps, guidance))))
    return np.concatenate(drawn)


def _show(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
