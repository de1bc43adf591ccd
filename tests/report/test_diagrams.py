"""Figures 4 and 5 draw all that was traced, and every word of them can be read."""

import itertools
import re

import pytest
import torch
from diffusers import UNet2DConditionModel
from layouts import SD15, SDXL
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch
from report.test_tracing import LAYOUTS, trace

from diffusion2gan.report import diagrams, tracing
from diffusion2gan.report.figures import SMALL
from scripts.report import make_figure4, make_figure5


def assert_legible(figure):
    """No word is cut, smaller than the smallest, over another, or over the edge of a box."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    extents = {text: text.get_window_extent(renderer) for text in figure.axes[0].texts}
    assert min(text.get_fontsize() for text in extents) >= SMALL
    for text, extent in extents.items():
        assert figure.bbox.x0 <= extent.x0 and extent.x1 <= figure.bbox.x1, f"{text.get_text()} is cut"
        assert figure.bbox.y0 <= extent.y0 and extent.y1 <= figure.bbox.y1, f"{text.get_text()} is cut"
    for (one, here), (other, there) in itertools.combinations(extents.items(), 2):
        width, height = min(here.x1, there.x1) - max(here.x0, there.x0), min(here.y1, there.y1) - max(here.y0, there.y0)
        deep = 0.25 * min(here.height, there.height)  # an extent has room for descenders
        assert width <= 0 or height <= deep, f"{one.get_text()} and {other.get_text()} overlap"
    boxes = [patch.get_window_extent() for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for text, extent in extents.items():
        middle = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
        for box in boxes:
            if box.contains(*middle) and text.get_text() != "c":  # the badge sits on the edge
                assert box.x0 <= extent.x0 and extent.x1 <= box.x1, f"{text.get_text()} is wider than its box"
                assert box.y0 <= extent.y0 + 2 and extent.y1 - 2 <= box.y1, f"{text.get_text()} is higher than its box"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("z", "multi_scale"), [(True, True), (False, False)])
def test_figure5_draws_what_the_module_has(layout, z, multi_scale):
    unet, traced = LAYOUTS[layout](), trace(layout, z_conditioning=z, multi_scale=multi_scale)
    figure = diagrams.discriminator(traced, "a teacher")
    said = [text.get_text() for text in figure.axes[0].texts]
    blocks = len(unet.down_blocks) + 1 + len(unet.up_blocks)
    places = 3 * len(unet.up_blocks) if multi_scale else 1
    assert sum(word in ("before", "at", "after") for word in said) == places
    assert said.count("resized $x$") == (len(unet.down_blocks) - 1) * multi_scale and said.count("$z$") == z
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    entries = said.count("resized $x$") + said.count("$z$")
    assert len(boxes) == blocks + places + 2 * entries + 3  # x, the stem, the text
    assert_legible(figure)


@pytest.mark.parametrize(("config", "readouts"), [(SD15, 12), (SDXL, 9)], ids=["sd15", "sdxl"])
def test_figure5_at_the_size_of_the_paper_s_teachers(config, readouts):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    traced = tracing.trace_discriminator(unet, 77, z_conditioning=True, multi_scale=True)
    figure = diagrams.discriminator(traced, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    said = [text.get_text() for text in figure.axes[0].texts]
    assert sum(bool(re.fullmatch(r"1×\d+²", word)) for word in said) == readouts
    assert_legible(figure)


def test_figure4_draws_the_overview(teacher_folder):
    traced = tracing.overview(str(teacher_folder), "bgco", 0.25, z_conditioning=True, multi_scale=True)
    figure = diagrams.overview(traced, ["DDIMScheduler, 50 steps", "guidance 3; 3,000,000 pairs"], "a teacher")
    said = " | ".join(text.get_text() for text in figure.axes[0].texts)
    for word in ("DDIMScheduler, 50 steps", "3,000,000 pairs", "$t$ = 999", "UNet2DConditionModel", "ELatentLPIPS"):
        assert word in said
    assert "D(c, z, x)" in said and "logits: 3 of 1×4², 3 of 1×8²" in said
    assert_legible(figure)
    blind = tracing.overview(str(teacher_folder), "b", 0.25, z_conditioning=False, multi_scale=False)
    said = " | ".join(text.get_text() for text in diagrams.overview(blind, [], "a teacher").axes[0].texts)
    assert "D(c, x)" in said and "logits: 1 of 1×8²" in said


@pytest.mark.parametrize(
    ("weights", "said"),
    [(859520964, "860 M"), (1003904, "1.00 M"), (2567463684, "2.57 G"), (138880, "139 k"), (7, "7")],
)
def test_weights_in_three_digits(weights, said):
    assert diagrams.quantity(weights) == said


def test_from_the_command_line_to_files(teacher_folder, tmp_path):
    options = {"teacher": str(teacher_folder), "z_conditioning": True, "multi_scale": True}
    study = {"ensemble": "bgco", "trunk_width": 0.25, "count": 64, "solver": "ddim", "steps": 4, "guidance": 3.0}
    make_figure4.main(make_figure4.Arguments(out=tmp_path / "figure4.png", **options, **study))
    make_figure5.main(make_figure5.Arguments(out=tmp_path / "figure5.png", **options))
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"figure4.png", "figure4.pdf", "figure5.png", "figure5.pdf"}
