"""The figures, in one style: PNG and PDF, with a description and an attribution in their metadata."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from diffusion2gan.io import atomic

STYLE = Path(__file__).with_name("figures.mplstyle")
WIDTH = 4.8  # inches, the text width of the paper
SMALL = 6  # points, the smallest font size
CELL = 1.0  # inches
MARKERS = "osD^vP*X<>h"
CAPTION_WIDTH, TITLE_WIDTH = 20, 15  # letters

# The costs that FID is plotted against: measured column: (the paper's column, the label of the axis)
COST_AXES = {
    "inference_seconds": ("inference_seconds_paper", "seconds per image"),
    "device_days": ("a100_days_paper", "days of training on one device (in the paper, an A100)"),
    "nfe_million": ("nfe_million_paper", "network evaluations, millions"),
    "nfe_total_million": ("nfe_total_million_paper", "network evaluations, millions; a backward pass counts as two"),
}

# The panels of a training's curves: the title, a column that is drawn solid, and one that is dashed
CURVES = {
    "loss": ("loss",),
    "D's loss": ("discriminator_loss",),
    "D's accuracy: real, fake (dashed)": ("real_accuracy", "fake_accuracy"),
    "gradient norm: G, D (dashed)": ("student_gradient_norm", "discriminator_gradient_norm"),
    "error: held out, trained on (dashed)": ("held_out_error", "train_error"),
    "variance": ("variance",),
}
LOGARITHMIC = ("error", "gradient", "variance")


def grid(columns: dict[str, Sequence[np.ndarray]], captions: Sequence[str], attribution: str = "") -> Figure:
    """Figure 1: one row per caption, one column per model. Images are uint8 (H, W, 3).

    All models in a row start from the same noise. `attribution` is printed small at the foot.
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
        _foot(figure, attribution)
    return figure


def costs(parts: pd.DataFrame, hardware: str) -> Figure:
    """Figure 2: milliseconds of one step of each loss, stacked by part, and its peak memory in MiB.

    `parts` has the columns loss, part, milliseconds and mebibytes. Each loss has its memory at `total`.
    """
    total = parts[parts["part"] == "total"].set_index("loss")
    stacked = parts[parts["part"] != "total"].pivot_table(
        index="loss", columns="part", values="milliseconds", sort=False, fill_value=0
    )
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(WIDTH, 1 + 0.3 * len(total)), layout="constrained")
        time, memory = figure.subplots(1, 2, sharey=True)
        stacked.loc[total.index].plot.barh(stacked=True, ax=time, legend=False)
        style = {"color": "0", "linestyle": "", "marker": "|", "markersize": 10, "markeredgewidth": 1}
        time.plot(total["milliseconds"], range(len(total)), label="whole step", **style)
        total["mebibytes"].plot.barh(ax=memory, color="0.5")
        time.invert_yaxis()
        for axes, values, title in (
            (time, total["milliseconds"], "ms per step"),
            (memory, total["mebibytes"], "extra peak memory, MiB"),
        ):
            for place, value in enumerate(values):
                words = f"{float(f'{value:.3g}'):,g}"
                axes.annotate(words, (value, place), (4, 0), textcoords="offset points", va="center")
            axes.set(ylabel="", title=title, xlim=(0, 1.3 * values.max()))
        figure.legend(*time.get_legend_handles_labels(), loc="outside upper center", ncols=5)
        _foot(figure, hardware)
    return figure


def reconstructions(
    curves: dict[str, pd.DataFrame], target: np.ndarray, found: dict[str, np.ndarray], attribution: str = ""
) -> Figure:
    """Figure 3: how close each loss brings a latent to its target, and the final images.

    `curves` has, for each loss, the columns step, seed, picture, metric, pixel_mse. Lines are means, bands
    ranges over seeds. `target` (N, H, W, 3) and `found[loss]` are uint8 images.
    """
    with matplotlib.style.context(STYLE):
        heights = 2.4, 0.75 * len(target) + 0.4
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        above, below = figure.subfigures(2, 1, height_ratios=heights)
        names = {"metric": "LatentLPIPS to the target", "pixel_mse": "MSE of the decoded images"}
        for axes, (column, name) in zip(above.subplots(1, 2), names.items(), strict=True):
            for loss, curve in curves.items():
                of_seeds = curve.groupby(["step", "seed"])[column].mean().unstack()
                (line,) = axes.plot(of_seeds.index, of_seeds.mean(axis=1), label=loss)
                axes.fill_between(
                    of_seeds.index, of_seeds.min(axis=1), of_seeds.max(axis=1), alpha=0.2, color=line.get_color()
                )
            axes.set(xlabel="step", yscale="log", title=name)
        above.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        cells = below.subplots(len(target), len(found) + 1, squeeze=False)
        for column, (name, pictures) in enumerate({"target": target, **found}.items()):
            cells[0, column].set_title(textwrap.fill(name, TITLE_WIDTH), fontsize=SMALL)
            for row, picture in enumerate(pictures):
                cells[row, column].imshow(picture)
                cells[row, column].set_axis_off()
        _foot(below, attribution)
    return figure


def against(series: Iterable[tuple[str, pd.DataFrame]], cost: str) -> Figure:
    """FID against a cost, one line per series: its name and its rows of a table (`report.tables`).

    One panel has the measured numbers with their intervals, the other the paper's. The two never share a panel: their
    FIDs use different features, and their costs come from different machines. `cost` is a name in `COST_AXES`. A table
    that is not in the paper has one panel.
    """
    (reported, words), series = COST_AXES[cost], list(series)
    panels = {"measured": (cost, "fid", "fid_interval")}
    if any(reported in rows and rows[reported].notna().any() for _, rows in series):
        panels["reported by the paper"] = (reported, "fid_paper", "")
    with matplotlib.style.context(STYLE):
        longest = max(len(name) for name, _ in series)
        beside = max(1, int(WIDTH / (0.45 + 0.055 * longest)))  # number of legend names per line
        height = 2.3 + 0.16 * -(-len(series) // beside)
        figure, lines = Figure(figsize=(WIDTH, height), layout="constrained"), {}
        for axes, (title, columns) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            axes.set(title=title, ylabel="FID", xscale="log")
            axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            for number, (name, rows) in enumerate(series):
                points = rows.reindex(columns=columns).astype(float).dropna(subset=columns[:2]).sort_values(columns[0])
                if len(points):
                    style = {"color": f"C{number % 8}", "marker": MARKERS[number % len(MARKERS)], "label": name}
                    lines[name] = axes.errorbar(*points.to_numpy().T, **style, markeredgecolor="0.2")
            if axes.containers:
                low, high = axes.dataLim.intervalx
                axes.set_autoscalex_on(False)
                axes.set_xlim(low / 2, high * 2)  # at least two of the ticks at 1, 2 and 5
            else:
                axes.text(0.5, 0.5, f"nothing {title}", ha="center", color="0.5", transform=axes.transAxes)
            axes.margins(y=0.15)
        figure.supxlabel(words)
        known = [lines[name] for name, _ in series if name in lines]
        figure.legend(handles=known, loc="outside upper center", ncols=beside)
    return figure


def curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """The histories of trainings by name, one colour each, in the panels of `CURVES`.

    A panel is left out if no history has its columns. A panel's second column is dashed.
    """
    found = {
        title: columns for title, columns in CURVES.items() if any(set(columns) & set(h) for h in histories.values())
    }
    with matplotlib.style.context(STYLE):
        rows = -(-len(found) // 2)
        figure = Figure(figsize=(WIDTH, 0.3 + 1.5 * rows), layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False).flatten()
        for axes in panels[len(found) :]:
            axes.set_axis_off()
        for axes, (title, columns) in zip(panels, found.items(), strict=False):
            scale = "log" if title.startswith(LOGARITHMIC) else "linear"
            axes.set(title=title, xlabel="step", yscale=scale)
            for number, history in enumerate(histories.values()):
                for line, column in zip(("-", "--"), columns, strict=False):
                    if column in history:
                        points = history[["step", column]].dropna()
                        axes.plot(points["step"], points[column], line, color=f"C{number % 8}", linewidth=0.8)
        lines = [Line2D([], [], color=f"C{number % 8}", label=name) for number, name in enumerate(histories)]
        figure.legend(
            handles=lines, loc="outside upper center", ncols=max(1, int(8 / len(max(histories, key=len)) * 6))
        )
    return figure


def preferences(sources: dict[str, pd.DataFrame]) -> Figure:
    """Figure 6: how often a row's images are preferred to another's. One column of panels per question, one row of
    panels per source of answers. Each source has its own panels.

    A source has the columns question, row, against, win_rate in [0, 1]. A measured source also has win_rate_low and
    win_rate_high, drawn as error bars, and ties, which the rate leaves out.
    """
    questions = list(dict.fromkeys(each for frame in sources.values() for each in frame["question"]))
    heights = [0.7 + 0.25 * len(frame[["row", "against"]].drop_duplicates()) for frame in sources.values()]
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(7.2, sum(heights)), layout="constrained")
        panels = figure.subplots(len(sources), len(questions), squeeze=False, sharey="row", height_ratios=heights)
        for (name, frame), line in zip(sources.items(), panels, strict=True):
            for question, axes in zip(questions, line, strict=True):
                _stacked(axes, frame[frame["question"] == question].dropna(subset="win_rate").iloc[::-1])
                axes.set_title(f"{question}\n{name}")
                axes.tick_params(axis="y", labelsize=5)
        for axes in panels[-1]:
            axes.set_xlabel("% of answers for the first row")
    return figure


def _stacked(axes: Axes, rates: pd.DataFrame) -> None:
    """One bar of two parts per pair of rows, with an error bar and the number on the right."""
    labels, percent = rates["row"] + "\nagainst " + rates["against"], 100 * rates["win_rate"]
    axes.barh(labels, percent, color="C0")
    axes.barh(labels, 100 - percent, left=percent, color="0.8")
    if "win_rate_low" in rates:
        beside = [percent - 100 * rates["win_rate_low"], 100 * rates["win_rate_high"] - percent]
        axes.errorbar(percent, labels, xerr=beside, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    for label, value, ties in zip(labels, percent, rates.get("ties", [0] * len(rates)), strict=True):
        said = f"{value:.1f}" + (f", {ties} ties" if ties else "")
        axes.annotate(said, (100, label), (3, 0), textcoords="offset points", va="center", fontsize=5)
    axes.axvline(50, color="black", linewidth=0.5, linestyle=":")
    axes.set_xlim(0, 100)


def contact_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6) -> Figure:
    """Images uint8 (H, W, 3) in a grid, each above its caption."""
    rows = -(-len(pictures) // columns)
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(1.2 * CELL * columns, 1.6 * CELL * rows), layout="constrained")
        for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            axes.set_axis_off()
            if place < len(pictures):
                axes.imshow(pictures[place])
                caption = textwrap.fill(captions[place], CAPTION_WIDTH, max_lines=3, placeholder=" …")
                axes.set_title(caption, y=0, va="top", pad=-3, fontsize=SMALL)
    return figure


def _foot(figure: Figure | SubFigure, words: str) -> None:
    """Print a text at the foot in small letters, wrapped into lines."""
    width = figure.bbox.width / figure.dpi
    figure.supxlabel(textwrap.fill(words, int(width * 20)), fontsize=SMALL, color="0.35")


def save(figure: Figure, path: Path, description: str, attribution: str = "", vector: bool = True) -> None:
    """Write a figure as PNG and, if `vector`, also as PDF, atomically, with description and attribution as metadata.

    The same figure always has the same bytes, because neither file has a date.
    """
    metadata = {
        "png": {"Description": description, "Software": "diffusion2gan", "Copyright": attribution},
        "pdf": {"Title": path.stem, "Subject": description, "Author": attribution, "CreationDate": None},
    }
    with matplotlib.style.context(STYLE):
        for form in ("png", "pdf") if vector else ("png",):
            with atomic(path.with_suffix(f".{form}")) as temporary:
                said = {name: value for name, value in metadata[form].items() if value or name == "CreationDate"}
                figure.savefig(temporary, format=form, metadata=said)
