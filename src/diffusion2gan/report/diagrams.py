"""Figures 4 and 5: traced networks (`report.tracing`) as boxes and arrows. Positions are in inches."""

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.style
import networkx as nx
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from diffusion2gan.report.figures import SMALL, STYLE, WIDTH

COLOURS = {"data": "0.45", "frozen": "C0", "trained": "C1", "loss": "C2", "text": "C3", "z": "C5"}
TRANSFORMS = {"b": "flips", "g": "geometry", "c": "colour", "o": "cutout"}  # of an ensemble
INPUT, ENCODER, DECODER, READOUT, ROW = 0.42, 1.6, 3.0, 4.3, 0.95  # columns and row height of Figure 5


class Box(NamedTuple):
    """A title over smaller lines at (x, y). An arrow may end up to `reach` inches left or right of x."""

    x: float
    y: float
    kind: str  # of COLOURS
    title: str
    lines: Sequence[str] = ()
    reach: float = 0


def draw_overview(graph: nx.DiGraph, solving: Sequence[str], source: str) -> Figure:
    """Figure 4: the teacher's pairs, the student, and its two losses.

    `solving` are lines that say how the pairs are made, `source` says where the traced networks come from.
    """
    node = graph.nodes
    unet, latent = _counted(node["teacher"]), size(node["x"]["shape"])
    text, metric, discriminator = node["text"], node["metric"], node["discriminator"]
    transforms = textwrap.wrap("T: " + ", ".join(TRANSFORMS[letter] for letter in metric["preset"]), 20)
    features = f"{len(metric['taps'])} features of {metric['backbone']}, {quantity(metric['weights'])}"
    logits = ", ".join(f"{count} of {shape}" for shape, count in Counter(map(size, discriminator["logits"])).items())
    seen = "c, z, x" if graph.has_edge("z", "discriminator") else "c, x"
    judging = [f"{_counted(discriminator)}, at $t$ = {discriminator['timestep']}", f"logits: {logits}"]
    generating = [unet, f"once, at $t$ = {node['generator']['timestep']}"]
    decoding = ["only for viewing,", "not in training", size(node["decoder"]["shape"])]
    encoding = [text["module"], quantity(text["weights"]), size(text["shape"])]
    boxes = {
        "z": Box(0.45, 2.45, "data", "noise z", [latent]),
        "text": Box(0.5, 1.35, "frozen", "text encoder", encoding),
        "prompt": Box(0.4, 0.55, "data", "prompt c"),
        "teacher": Box(2.05, 2.8, "frozen", "teacher ODE, in advance", [unet, *solving]),
        "generator": Box(2.05, 1.8, "trained", "generator G(z, c)", generating),
        "x": Box(3.1, 2.8, "data", "target x", [latent]),
        "x_hat": Box(3.45, 1.8, "data", r"\hat{x}", [latent]),
        "metric": Box(4.15, 2.35, "loss", "regression (Eq. 4)", [metric["module"], features, *transforms]),
        "decoder": Box(4.2, 1.15, "frozen", "VAE decoder", decoding),
        "discriminator": Box(2.5, 0.55, "trained", f"discriminator D({seen}): GAN loss (Eq. 6)", judging, reach=0.7),
    }  # fmt: skip
    notes = [f"blue: frozen, orange: trained, green: losses; networks traced from {source}"]
    return draw(graph, boxes, 3.2, notes)


def draw_discriminator(graph: nx.DiGraph, source: str) -> Figure:
    """Figure 5: encoder on the left, decoder on the right, inputs and readouts beside each scale."""
    levels = [name for name in graph if name.startswith("encoder")]
    height = ROW * len(levels) + 1.75
    rows = {name: height - 1.15 - ROW * level for level, name in enumerate(levels)}

    def box(name: str, x: float, y: float) -> Box:
        node = graph.nodes[name]
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node["module"])  # a class name breaks before a capital
        lines = [line.replace(" ", "") for line in textwrap.wrap(words, 30 if name == "middle" else 14)]
        attends = ["attends to $c$"] if graph.has_edge("text", name) else []
        return Box(x, y, "trained", size(node["shape"]), [*lines, quantity(node["weights"]), *attends])

    boxes = {"x": Box(INPUT, height - 0.35, "data", "x", [size(graph.nodes["x"]["shape"])])}
    boxes["text"] = Box(DECODER, height - 0.35, "text", "text c", [size(graph.nodes["text"]["shape"])])
    boxes["stem"] = box("stem", ENCODER, height - 0.35)
    if "middle" in graph:
        boxes["middle"] = box("middle", (ENCODER + DECODER) / 2, rows[levels[-1]] - 0.8 * ROW)
    boxes |= {name: box(name, ENCODER, y) for name, y in rows.items()}
    for name, node in graph.nodes.items():
        if name == "z" or name.startswith("resized"):
            (block,) = graph.successors(name)
            lines = [size(node["shape"]), "zero conv"]
            boxes[name] = Box(INPUT, rows[block], "data", name.rstrip(" 0123456789"), lines)
        if name.startswith("decoder"):
            (level,) = (before for before in graph.predecessors(name) if "skips" in graph.edges[before, name])
            boxes[name] = box(name, DECODER, rows[level])
        if "place" in node:
            (block,) = graph.predecessors(name)
            offset = {"before": 0.26, "at": 0, "after": -0.26}[node["place"]]
            boxes[name] = Box(READOUT, boxes[block].y + offset, "loss", "", [f"{node['place']} {size(node['shape'])}"])
    notes = ["green: logits before, at and after the skip connections (×: their number)",
             "zero conv: a convolution that starts at zero and adds its output",
             f"{_counted(graph.graph)}, at $t$ = {graph.graph['timestep']}, traced from {source}"]  # fmt: skip
    arrows = graph.edge_subgraph([(a, b) for a, b in graph.edges if a != "text"])
    return draw(arrows, boxes, height, notes)


def draw(graph: nx.DiGraph, boxes: dict[str, Box], height: float, notes: Sequence[str]) -> Figure:
    """The boxes and an arrow for each edge of the graph, with notes at the foot."""
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
        axes.set_axis_off()
        centred = {"ha": "center", "va": "center", "fontsize": SMALL}
        patches = {}
        for name, box in boxes.items():
            title = [r"$\mathbf{" + box.title.replace(" ", r"\ ") + "}$"] if box.title else []
            pale = [1 - 0.18 * (1 - channel) for channel in to_rgb(COLOURS[box.kind])]
            style = {"boxstyle": "round,pad=0.5", "facecolor": pale, "edgecolor": COLOURS[box.kind], "linewidth": 0.8}
            text = axes.text(box.x, box.y, "\n".join([*title, *box.lines]), bbox=style, linespacing=1.25, **centred)
            patches[name] = text.get_bbox_patch()
        for a, b, edge in graph.edges(data=True):
            end = min(max(boxes[a].x, boxes[b].x - boxes[b].reach), boxes[b].x + boxes[b].reach), boxes[b].y
            colour = COLOURS[a if a in COLOURS else "data"]
            arrow = {"arrowstyle": "-|>,head_length=0.3,head_width=0.15", "color": colour, "linewidth": 0.8}
            arrow |= {"patchA": patches[a], "patchB": patches[b], "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", end, boxes[a][:2], arrowprops=arrow)
            if "skips" in edge:
                axes.text((boxes[a].x + end[0]) / 2, end[1] + 0.08, f"×{edge['skips']}", **centred)
        for number, note in enumerate(reversed(notes)):
            axes.text(WIDTH / 2, 0.1 + 0.12 * number, note, color="0.35", **centred)
    return figure


def quantity(weights: int) -> str:
    """A number of weights with three digits: 859520964 → "860 M"."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if weights >= 10**power:
            return f"{weights / 10**power:#.3g}".rstrip(".") + f" {letter}"
    return str(weights)


def size(shape: Sequence[int]) -> str:
    """A shape as text: channels × side², or tokens × width."""
    return f"{shape[0]}×{shape[1]}²" if len(shape) == 3 and shape[1] == shape[2] else "×".join(map(str, shape))


def _counted(node: dict) -> str:
    return f"{node['module']}, {quantity(node['weights'])}"
