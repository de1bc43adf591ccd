"""Figures: one style, PNG, what they show and whose pictures they are written inside."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from diffusion2gan.training.checkpoint import atomic

STYLE = Path(__file__).with_name("figures.mplstyle")
CELL = 1.0  # inches
CAPTION_WIDTH, TITLE_WIDTH = 20, 15  # letters


def grid(columns: dict[str, Sequence[np.ndarray]], captions: Sequence[str], attribution: str = "") -> Figure:
    """Figure 1: a row for each caption, a column for each model, whose pictures are uint8 (H, W, 3).

    Along a row all models start from the same noise. `attribution` is printed small at the foot.
    """
    with matplotlib.style.context(STYLE):
        height = CELL * len(captions) + 0.25 + (0.2 if attribution else 0)
        figure = Figure(figsize=(CELL * (len(columns) + 1), height), layout="constrained")
        axes = figure.subplots(len(captions), len(columns), squeeze=False)
        for column, (name, pictures) in enumerate(columns.items()):
            axes[0, column].set_title(textwrap.fill(name, TITLE_WIDTH))
            for row, picture in enumerate(pictures):
                axes[row, column].imshow(picture)
                axes[row, column].set(xticks=[], yticks=[])
                axes[row, column].spines[:].set_visible(False)
        for row, caption in enumerate(captions):
            label = textwrap.fill(caption, CAPTION_WIDTH)
            axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=4)
        if attribution:
            figure.supxlabel(attribution, fontsize=5, color="0.35")
    return figure


def save(figure: Figure, path: Path, description: str, attribution: str = "") -> None:
    """Write a figure as PNG, atomically, with what it shows and whose pictures it holds as metadata."""
    metadata = {"Description": description, "Software": "diffusion2gan"}
    if attribution:
        metadata["Copyright"] = attribution
    with matplotlib.style.context(STYLE), atomic(path) as temporary:
        figure.savefig(temporary, format="png", metadata=metadata)
