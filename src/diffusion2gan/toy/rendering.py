"""Rendering of many toy images at once, on all cores."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from diffusion2gan.progress import track

FEW = 1000  # images: for fewer, starting processes takes longer than rendering


def render(image: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """The images `image(0)` to `image(count - 1)`, uint8 (count, size, size, 3)."""
    cores = len(os.sched_getaffinity(0))
    if count < FEW or cores == 1:
        return np.stack([image(i) for i in track(range(count), "rendering")])
    with ProcessPoolExecutor(cores, get_context("fork")) as pool:
        return np.stack(list(track(pool.map(image, range(count), chunksize=64), "rendering", total=count)))
