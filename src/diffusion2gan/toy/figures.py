"""The figures on the cards of the toy assets: samples and training losses."""

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from diffusion2gan.report.figures import STYLE


def sheet(images: np.ndarray, rows: int, columns: int) -> Figure:
    """Images uint8 (rows · columns, H, W, 3) side by side."""
    sheet = images.reshape(rows, columns, *images.shape[1:]).transpose(0, 2, 1, 3, 4)
    figure = Figure(figsize=(columns * 0.6, rows * 0.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet.reshape(rows * images.shape[1], columns * images.shape[2], 3))
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
