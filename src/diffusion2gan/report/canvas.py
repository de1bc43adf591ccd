"""Boxes with text, and arrows between them, as matplotlib draws them. Lengths are in inches, from the lower left."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from diffusion2gan.report.figures import SMALL

TITLE = 7  # points
LINE = 1.25 / 72  # from line to line, for each point of their size
COLOURS = {"data": "0.45", "frozen": "C0", "trained": "C1", "loss": "C2", "text": "C3", "noise": "C5"}

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A box about (x, y), and the middles of its sides."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Point:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> Point:
        return self.x, self.y - self.height / 2


class Canvas:
    """A figure of a size, to draw on."""

    def __init__(self, width: float, height: float):
        self.figure = Figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.set_axis_off()

    def box(self, box: Box, kind: str, title: str, lines: Sequence[str] = (), dashed: bool = False) -> Box:
        """A box of a kind of `COLOURS`, with a title, unless it is empty, over smaller lines."""
        colour = COLOURS[kind]
        pale = [1 - 0.18 * (1 - channel) for channel in to_rgb(colour)]
        corner = box.left[0], box.bottom[1]
        style = {"facecolor": pale, "edgecolor": colour, "linewidth": 0.8, "linestyle": "--" if dashed else "-"}
        rounded = "round,pad=0,rounding_size=0.04"
        self.axes.add_patch(FancyBboxPatch(corner, box.width, box.height, boxstyle=rounded, zorder=2, **style))
        written = [(title, TITLE, "bold")] if title else []
        written += [(line, SMALL, "normal") for line in lines]
        y = box.y + sum(size for _, size, _ in written) * LINE / 2
        for text, size, weight in written:
            self.text((box.x, y - size * LINE / 2), text, size=size, weight=weight)
            y -= size * LINE
        return box

    def arrow(self, *points: Point, kind: str = "data", dashed: bool = False, head: bool = True) -> None:
        """A line through points, straight between them, that ends in an arrow."""
        style = {"color": COLOURS[kind], "linewidth": 0.8, "linestyle": "--" if dashed else "-", "zorder": 1}
        shape = "-|>,head_length=3,head_width=1.5" if head else "-"
        self.axes.add_patch(FancyArrowPatch(path=Path(points), arrowstyle=shape, mutation_scale=1, **style))

    def route(self, source: Box, bus: float, target: Box, offset: float, kind: str) -> None:
        """An arrow from a box along the vertical line at `bus` to the left of another, `offset` above its middle."""
        y = target.y + offset
        self.arrow(source.right, (bus, source.y), (bus, y), (target.left[0], y), kind=kind)

    def plus(self, at: Point) -> Box:
        """A circled plus."""
        style = {"markeredgecolor": "0.2", "markeredgewidth": 0.6, "zorder": 3}
        self.axes.plot(*at, "o", markersize=6, color="white", **style)
        self.axes.plot(*at, "+", markersize=4, **style)
        return Box(*at, 0.09, 0.09)

    def badge(self, at: Point, letter: str) -> None:
        """A letter in a dot."""
        self.axes.plot(*at, "o", markersize=7, color=to_rgb(COLOURS["text"]), zorder=3)
        self.text(at, letter, color="white", weight="bold")

    def text(self, at: Point, text: str, **style) -> None:
        """Text about a point."""
        self.axes.text(*at, text, **{"size": SMALL, "ha": "center", "va": "center_baseline", "zorder": 4} | style)
