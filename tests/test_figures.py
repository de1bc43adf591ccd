import matplotlib.style
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from diffusion2gan import figures
from diffusion2gan.datasets.openmoji import ATTRIBUTION

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
    assert figure.get_supxlabel() == ATTRIBUTION
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
