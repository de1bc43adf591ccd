"""Figures: one style, PNG, what they show and whose pictures they are written inside."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
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


def costs(parts: pd.DataFrame, hardware: str) -> Figure:
    """Figure 2: milliseconds of one step of each loss, stacked by part, and its peak memory in MiB.

    `parts` has the columns loss, part, milliseconds, and mebibytes, given once a loss, at its `total`.
    """
    total = parts[parts["part"] == "total"].set_index("loss")
    stacked = parts[parts["part"] != "total"].pivot_table(
        index="loss", columns="part", values="milliseconds", sort=False, fill_value=0
    )
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        time, memory = figure.subplots(1, 2)
        stacked.loc[total.index].plot.bar(stacked=True, ax=time, rot=0, legend=False)
        time.plot(total["milliseconds"].to_numpy(), "k_", markersize=26, label="measured in one")
        time.set(xlabel="", ylabel="ms a step", title="time")
        time.legend()
        total["mebibytes"].plot.bar(ax=memory, rot=0, color="0.5")
        memory.set(xlabel="", ylabel="MiB above what is held", title="peak memory")
        for axes, values, form in ((time, total["milliseconds"], "{:.3g}"), (memory, total["mebibytes"], "{:.3g}")):
            for place, value in enumerate(values):
                axes.annotate(form.format(value), (place, value), (0, 3), textcoords="offset points", ha="center")
            axes.margins(y=0.15)
        figure.supxlabel(hardware, fontsize=5, color="0.35")
    return figure


def reconstructions(
    curves: dict[str, pd.DataFrame], target: np.ndarray, found: dict[str, np.ndarray], attribution: str = ""
) -> Figure:
    """Figure 3: how near each loss brings a latent to its target, and the pictures where it ends.

    `curves` has, for each loss, the columns step, seed, picture, metric, pixel_mse; a line is their mean, its
    band their range over seeds. `target` (N, H, W, 3) and `found[loss]` are uint8 pictures.
    """
    with matplotlib.style.context(STYLE):
        width = max(6.4, 0.9 * (len(found) + 1))
        figure = Figure(figsize=(width, 2.6 + 0.9 * len(target)), layout="constrained")
        above, below = figure.subfigures(2, 1, height_ratios=(2.6, 0.9 * len(target)))
        names = {"metric": "LatentLPIPS to the target", "pixel_mse": "MSE of the decoded pictures"}
        for axes, (column, name) in zip(above.subplots(1, 2), names.items(), strict=True):
            for loss, curve in curves.items():
                of_seeds = curve.groupby(["step", "seed"])[column].mean().unstack()
                (line,) = axes.plot(of_seeds.index, of_seeds.mean(axis=1), label=loss)
                axes.fill_between(
                    of_seeds.index, of_seeds.min(axis=1), of_seeds.max(axis=1), alpha=0.2, color=line.get_color()
                )
            axes.set(xlabel="step", yscale="log", title=name)
        axes.legend(fontsize=5)
        cells = below.subplots(len(target), len(found) + 1, squeeze=False)
        for column, (name, pictures) in enumerate({"target": target, **found}.items()):
            cells[0, column].set_title(textwrap.fill(name, TITLE_WIDTH))
            for row, picture in enumerate(pictures):
                cells[row, column].imshow(picture)
                cells[row, column].set_axis_off()
        if attribution:
            below.supxlabel(attribution, fontsize=5, color="0.35")
    return figure


def against(frame: pd.DataFrame, column: str, reported: str, title: str) -> Figure:
    """FID against what it costs, measured in one panel and as the paper reports it in another: the two never mix.

    `column` is of the measured, `reported` of the paper's; `frame` is a table of `diffusion2gan.tables`.
    """
    panels = {
        "measured": ("fid", column, frame.get("fid_interval")),
        "reported by the paper": ("fid_paper", reported, None),
    }
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(6.4, 2.8), layout="constrained")
        for axes, (name, (vertical, across, widths)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            known = frame[across].notna() & frame[vertical].notna() if {across, vertical} <= set(frame) else []
            points = frame[known] if any(known) else frame[:0]
            for place, point in points.iterrows():
                spread = widths[place] if widths is not None and pd.notna(widths[place]) else 0
                axes.errorbar(float(point[across]), float(point[vertical]), yerr=spread, fmt="o", markersize=3)
                position = (float(point[across]), float(point[vertical]))
                axes.annotate(point["label"], position, (4, 3), textcoords="offset points", fontsize=5)
            if len(points):
                axes.set(xscale="log")
            else:
                axes.text(0.5, 0.5, "nothing", ha="center", color="0.5", transform=axes.transAxes)
            axes.margins(0.2)
            axes.set(xlabel=title, ylabel="FID", title=name)
    return figure


def quality_of_compute(table: pd.DataFrame, methods: dict[str, str]) -> Figure:
    """Table 6 drawn: FID against millions of evaluations, a curve a method over its rows, the paper's behind them.

    `table` has the columns row, fid, nfe_million and their `_paper`; `methods` the start of a method's row names, and
    its own name. A point that was not measured, or not reported, is left out.
    """
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(4.2, 3), layout="constrained")
        axes = figure.subplots()
        for number, (start, name) in enumerate(methods.items()):
            rows = table[table["row"].str.startswith(start)]
            paper = rows.dropna(subset=["nfe_million_paper", "fid_paper"]).sort_values("nfe_million_paper")
            ours = rows.dropna(subset=["nfe_million", "fid"]).sort_values("nfe_million")
            behind = {"color": f"C{number}", "alpha": 0.35, "marker": "s", "linestyle": "--", "markersize": 3}
            axes.plot(paper["nfe_million_paper"], paper["fid_paper"], **behind, label=f"{name}, paper")
            axes.plot(ours["nfe_million"], ours["fid"], color=f"C{number}", marker="o", markersize=4, label=name)
        axes.set(xscale="log", yscale="log", xlabel="evaluations, millions", ylabel="FID")
        axes.legend(fontsize=5)
    return figure


def preferences(sources: dict[str, pd.DataFrame]) -> Figure:
    """Figure 6: how often a row's pictures are preferred to another's; a column of panels for each question, a row of
    panels for each source of answers, which never mix.

    A source has the columns question, row, against, win_rate in [0, 1]; where it was measured also win_rate_low and
    win_rate_high, drawn as a bar of errors, and ties, which the rate leaves out.
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
            axes.set_xlabel("% of answers for the first")
    return figure


def _stacked(axes: Axes, rates: pd.DataFrame) -> None:
    """A bar of two parts for each pair of rows, its errors, and its number on the right."""
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
    """Pictures uint8 (H, W, 3) in rows, each over its caption."""
    rows = -(-len(pictures) // columns)
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(1.2 * CELL * columns, 1.6 * CELL * rows), layout="constrained")
        for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            axes.set_axis_off()
            if place < len(pictures):
                axes.imshow(pictures[place])
                caption = textwrap.fill(captions[place], CAPTION_WIDTH, max_lines=3, placeholder=" …")
                axes.set_title(caption, y=0, va="top", pad=-3, fontsize=5)
    return figure


def save(figure: Figure, path: Path, description: str, attribution: str = "") -> None:
    """Write a figure as PNG, atomically, with what it shows and whose pictures it holds as metadata."""
    metadata = {"Description": description, "Software": "diffusion2gan"}
    if attribution:
        metadata["Copyright"] = attribution
    with matplotlib.style.context(STYLE), atomic(path) as temporary:
        figure.savefig(temporary, format="png", metadata=metadata)
