"""Images: uint8 HWC and PNG at the edges, float NCHW in [-1, 1] inside the library."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusion2gan.finite import check_finite


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


def load_image(path: Path) -> np.ndarray:
    """Read an image as uint8 (H, W, 3)."""
    return np.asarray(Image.open(path).convert("RGB"))
