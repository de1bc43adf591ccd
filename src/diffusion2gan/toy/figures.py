"""The figure on the cards of the toy assets."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def sheet(images: Sequence[np.ndarray], rows: int, columns: int) -> Figure:
    """A grid of rows × columns images uint8 (H, W, 3)."""
    images = np.stack(images)
    sheet = images.reshape(rows, columns, *images.shape[1:]).transpose(0, 2, 1, 3, 4)
    figure = Figure(figsize=(columns * 0.6, rows * 0.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet.reshape(rows * images.shape[1], columns * images.shape[2], 3))
    axes.set_axis_off()
    return figure
