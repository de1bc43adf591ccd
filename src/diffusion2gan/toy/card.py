"""The cards (README) of the shipped toy assets: a text and a table of measured numbers."""

from pathlib import Path

from diffusion2gan.io import write_json, write_text
from diffusion2gan.toy.openmoji import ATTRIBUTION
from diffusion2gan.toy.quality import PIXEL_FEATURES

ASSETS = f"""# The toy assets

Small networks trained by this project on OpenMoji drawings, so that the toy scale starts from a teacher \
as the paper does. `snakemake --cores all -- assets` trains them again from nothing.

* `teacher/`: a `StableDiffusionPipeline` (VAE, text encoder, v-predicting U-Net)
* `teacher-xl/`: a `StableDiffusionXLPipeline` with the same VAE
* `clip/`: the open_clip model that scores image and text; trained on other seeds, with its own text encoder
* `vgg-latent.safetensors`, `vgg-pixel.safetensors`: the trunks of the perceptual losses, without their classifiers
* `edm/`: the teacher of Table 6, in pixels and without text, with a card of its own

{ATTRIBUTION}

## Measured

On unseen scenes, with the shipped half-precision weights. `fid` and `second_fid` are `fid` and `fid_second` of the \
toy scale's tables. `top1` of emoji and ground is the share of images that the CLIP classifies correctly (zero-shot), \
`top1` of a VGG its accuracy among 1,914 drawings. `real` and `reconstruction` are the best that a teacher can reach."""

EDM = f"""# The toy EDM teacher

A small EDM denoiser (`diffusion2gan.pixel.edm.EDM`) of 32 × 32 OpenMoji scenes, in place of EDM's of \
CIFAR-10 in Table 6. `snakemake --cores all -- assets` trains it again from nothing.

{ATTRIBUTION}

## Measured

With the shipped half-precision weights. FID is in the EfficientNet-Lite0 feature space at \
{PIXEL_FEATURES} × {PIXEL_FEATURES} pixels; `real_fid` compares two sets of real scenes."""

PIXART = f"""# The toy PixArt-α

A `PixArtAlphaPipeline` of OpenMoji scenes: a small transformer that predicts v, a T5 encoder, and the VAE of the toy \
teachers. It takes the place of PixArt-α in Table 3. `snakemake --cores all -- assets` trains it again from nothing.

{ATTRIBUTION}

## Measured

With the shipped half-precision weights, like the numbers of the other toy assets."""


def write_card(path: Path, text: str, numbers: dict, images: str) -> None:
    """Write a card as Markdown: a text, a table of numbers, images. The numbers are also written as JSON next to it."""
    rows = "\n".join(f"| {name} | {_format(value)} |" for name, value in numbers.items())
    write_text(path, f"{text}\n\n| | |\n|---|---|\n{rows}\n\n{images}\n")
    write_json(path.with_suffix(".json"), numbers)


def _format(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
