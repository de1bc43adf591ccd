"""Images: uint8 HWC and PNG at the edges, float NCHW in [-1, 1] inside the library."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.finite import check_finite

SUFFIXES = {".png", ".jpg", ".jpeg"}
# what Pillow raises for damaged files, according to its own fuzzers (Tests/oss-fuzz/test_fuzzers.py)
_DAMAGED = (OSError, SyntaxError, ValueError, NotImplementedError, OverflowError, Image.DecompressionBombError)


def to_tensor(images: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 images (H, W, 3) → float (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: torch.Tensor, what: str = "image", numbers: Sequence[int] | None = None) -> np.ndarray:
    """Float (N, 3, H, W) in [-1, 1] → uint8 (N, H, W, 3), rounded; contiguous, whatever layout a GPU chose.

    Raises UserError for NaN and infinity. The message calls image i `what` and `numbers[i]`, by default `what` and i.
    """
    pixels = ((check_finite(images, what, numbers).float().clamp(-1, 1) + 1) * 127.5).round()
    return pixels.permute(0, 2, 3, 1).to("cpu", torch.uint8).contiguous().numpy()


def save_png(image: np.ndarray, path: Path) -> None:
    """Write a uint8 image (H, W, 3)."""
    Image.fromarray(image).save(path, format="PNG")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file, open. Raises UserError that names it if it is missing, damaged, or no image.

    So every image is opened here; Pillow reads the pixels later, in the block.
    """
    try:
        with Image.open(path) as image:
            yield image
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(f"the image {path} cannot be read ({error}): make or fetch it again") from error


def open_image(path: Path) -> Image.Image:
    """Read an image as RGB: the first frame, on white where it is transparent; EXIF rotations are ignored.      # ours

    clean-fid and torchvision ignore them, too. Raises UserError that names a file that is missing, damaged or no image,
    or whose pixels have more than 8 bits, which Pillow would clip to white.
    """
    with opened(path) as image:
        if image.mode[0] in "IF":
            raise UserError(f"the image {path} has pixels of more than 8 bits ({image.mode}): convert it to 8 bits")
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return image.convert("RGB")


def load_image(path: Path) -> np.ndarray:
    """Read an image as uint8 (H, W, 3), like `open_image`."""
    return np.asarray(open_image(path))
