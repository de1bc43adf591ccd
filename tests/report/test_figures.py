import filecmp

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from diffusion2gan.report import figures
from diffusion2gan.toy.openmoji import ATTRIBUTION

CAPTIONS = ["a red apple on a blue background", "a fox on a green background"]


@pytest.fixture
def columns():
    return {name: [np.full((8, 8, 3), value, np.uint8) for value in (40, 90)] for name in ("teacher", "student")}


def test_a_row_for_each_caption_and_a_column_for_each_model(columns):
    figure = figures.grid(columns, CAPTIONS)
    axes = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_title() for axis in axes[0]] == ["teacher", "student"]
    assert [axis.get_ylabel().replace("\n", " ") for axis in axes[:, 0]] == CAPTIONS
    for row, value in enumerate((40, 90)):
        assert all((axis.get_images()[0].get_array() == value).all() for axis in axes[row])


def test_the_attribution_is_in_the_picture_and_in_its_metadata(columns, tmp_path):
    path = tmp_path / "figure1.png"
    figure = figures.grid(columns, CAPTIONS, ATTRIBUTION)
    assert figure.get_supxlabel().replace("\n", " ") == ATTRIBUTION
    figures.save(figure, path, "what it shows", ATTRIBUTION)
    with Image.open(path) as png:
        assert png.format == "PNG"
        assert png.text["Copyright"] == ATTRIBUTION and "CC BY-SA 4.0" in png.text["Copyright"]
        assert png.text["Description"] == "what it shows"


def test_without_openmoji_nothing_is_attributed(columns, tmp_path):
    path = tmp_path / "figure1.png"
    figure = figures.grid(columns, CAPTIONS)
    figures.save(figure, path, "what it shows")
    with Image.open(path) as png:
        assert "Copyright" not in png.text
    assert figure.get_supxlabel() == ""


# Linear RGB as seen without the long, the middle or the short cones (Machado et al. 2009, severity 1).
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def nearest_colours(colours, blindness):
    """The smallest CIE 1976 distance between two colours as seen with a colour blindness."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(BLINDNESS[blindness]).T).clip(0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = seen @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return min(np.linalg.norm(a - b) for i, a in enumerate(lab) for b in lab[:i])


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_the_colour_blind_can_tell_the_lines_apart(blindness):
    with matplotlib.style.context(figures.STYLE):
        colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert nearest_colours(colours, blindness) > 10
    assert nearest_colours(["tab:red", "tab:green"], "deuteranopia") < 10  # as matplotlib's own cannot be


def test_png_and_pdf_of_the_same_figure_are_the_same_bytes(columns, tmp_path, monkeypatch):
    for name in ("first", "second"):
        monkeypatch.setattr("time.time", lambda name=name: {"first": 1e9, "second": 2e9}[name])
        (tmp_path / name).mkdir()
        path = tmp_path / name / "figure1.png"
        figures.save(figures.grid(columns, CAPTIONS, ATTRIBUTION), path, "what it shows", ATTRIBUTION)
    first, second = ({path.name: path for path in (tmp_path / name).iterdir()} for name in ("first", "second"))
    assert first.keys() == second.keys() == {"figure1.png", "figure1.pdf"}
    assert [name for name in first if not filecmp.cmp(first[name], second[name], shallow=False)] == []


def test_fonts_of_a_pdf_are_embedded_as_truetype(columns, tmp_path):
    figures.save(figures.grid(columns, CAPTIONS), tmp_path / "figure1.png", "what it shows")
    pdf = (tmp_path / "figure1.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert b"what it shows" in pdf


def test_sheets_of_pictures_are_no_vectors(columns, tmp_path):
    figures.save(figures.grid(columns, CAPTIONS), tmp_path / "sheet.png", "what it shows", vector=False)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def table_of_two():
    return pd.DataFrame(
        {
            "label": ["ours", "theirs"],
            "fid": [600.0, None],
            "fid_interval": [12.0, None],
            "fid_paper": [9.29, 13.1],
            "inference_seconds": [0.01, None],
            "inference_seconds_paper": [0.09, 0.08],
        }
    )


def drawn(figure):
    """For each panel: its title, and for each label the points and the ends of their intervals."""
    panels = {}
    for axes in figure.axes:
        lines = {}
        for container in axes.containers:
            points, _, bars = container
            ends = [segment[:, 1].tolist() for bar in bars for segment in bar.get_segments() if len(segment)]
            lines[container.get_label()] = (points.get_xydata().tolist(), ends)
        panels[axes.get_title()] = lines
    return panels


def test_measured_and_reported_never_share_a_panel():
    figure = figures.against(table_of_two().groupby("label", sort=False), "inference_seconds")
    panels = drawn(figure)
    assert panels["measured"] == {"ours": ([[0.01, 600.0]], [[588.0, 612.0]])}
    reported = panels["reported by the paper"]
    assert {name: points for name, (points, _) in reported.items()} == {
        "ours": [[0.09, 9.29]],
        "theirs": [[0.08, 13.1]],
    }
    assert not np.isfinite([end for _, ends in reported.values() for pair in ends for end in pair]).any()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "theirs"]


def test_a_series_is_one_line_in_the_order_of_its_cost():
    table = pd.DataFrame({"nfe_million": [3, 1, 2], "fid": [30.0, 10.0, 20.0]})
    panels = drawn(figures.against([("a method", table)], "nfe_million"))
    assert panels["measured"]["a method"][0] == [[1, 10], [2, 20], [3, 30]]
    assert panels.keys() == {"measured"}  # the paper has no such number


def test_no_words_of_a_plot_lie_over_others():
    rows = [f"a row with a long name, {number}" for number in range(11)]
    table = pd.DataFrame({"label": rows, "fid": 600.0, "device_days": 0.006, "fid_paper": 9.29, "a100_days_paper": 36})
    figure = figures.against(table.groupby("label", sort=False), "device_days")
    FigureCanvasAgg(figure).draw()
    legend = figure.legends[0].get_window_extent()
    words = [figure._supxlabel, *(axes.title for axes in figure.axes)]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        words += [label for tick, label in ticks if low <= tick <= high]
    extents = [legend, *(word.get_window_extent() for word in words if word.get_text())]
    for number, one in enumerate(extents):
        assert not any(one.overlaps(other) for other in extents[:number])
    assert all(figure.bbox.x0 <= one.x0 and one.x1 <= figure.bbox.x1 for one in extents)
