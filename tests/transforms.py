"""Affine maps by name, and pixels moved by numpy, for the tests of E-LatentLPIPS's transforms."""

import numpy as np
import torch

from diffusion2gan.losses.ensemble import affine
from diffusion2gan.losses.resampling import warp

ONE = torch.ones(1)


def stretch(horizontal: torch.Tensor, vertical: torch.Tensor):
    return lambda side: affine(side, horizontal, vertical, 0 * ONE, 0 * ONE, 0 * ONE)


def turn(angle: torch.Tensor):
    return lambda side: affine(side, ONE, ONE, angle, 0 * ONE, 0 * ONE)


def shift(right: torch.Tensor, down: torch.Tensor):
    """A map that shifts by fractions of the side."""
    return lambda side: affine(side, ONE, ONE, 0 * ONE, side * right, side * down)


def resampled(x: torch.Tensor, *steps, resampling: str = "bilinear") -> torch.Tensor:
    maps = torch.eye(3, dtype=torch.float64)[None]
    for step in steps:
        maps = step(x.shape[-1]) @ maps
    return warp(x, maps, resampling)


def shifted(x: torch.Tensor, right: int, down: int) -> torch.Tensor:
    """x moved by whole pixels, edges mirrored, by numpy."""
    side, reach = x.shape[-1], 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    rows, columns = slice(reach - down, reach - down + side), slice(reach - right, reach - right + side)
    return torch.from_numpy(padded[:, :, rows, columns].copy())


def mirrored(place: np.ndarray, side: int) -> np.ndarray:
    """Coordinates of pixels mirrored about the borders of the image, at -1/2 and side - 1/2."""
    place = (place + 0.5) % (2 * side)
    return np.clip(np.minimum(place, 2 * side - place) - 0.5, 0, side - 1)


def read_at(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The image x (C, s, s) sampled bilinearly at positions (s, s), by numpy."""
    side = x.shape[-1]
    rows, columns = mirrored(rows, side), mirrored(columns, side)
    top, left = (np.minimum(np.floor(place), side - 2).astype(int) for place in (rows, columns))
    below, after = rows - top, columns - left
    upper = (1 - after) * x[:, top, left] + after * x[:, top, left + 1]
    lower = (1 - after) * x[:, top + 1, left] + after * x[:, top + 1, left + 1]
    return (1 - below) * upper + below * lower
