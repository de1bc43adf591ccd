"""Figures 4 and 5 show everything that was traced, and all their text is legible."""

import itertools
import re

import pytest
import torch
from diffusers import UNet2DConditionModel
from layouts import SD15, SDXL
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report.test_tracing import LAYOUTS, trace

from diffusion2gan.report import diagrams, tracing
from diffusion2gan.report.figures import SMALL
from scripts.report import make_figure4, make_figure5


def words(figure):
    """The texts of a figure, titles without their markup."""
    texts = [text.get_text().replace(r"\ ", " ") for text in figure.axes[0].texts]
    return [re.sub(r"\$\\mathbf{(.*)}\$", r"\1", text) for text in texts if text]


def boxes_of(figure):
    return [text for text in figure.axes[0].texts if text.get_bbox_patch()]


def arrows_of(figure):
    return [text.arrow_patch for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)]


def assert_legible(figure):
    """No text is cut, too small, over another text or another box, or crossed by an arrow."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    extents = {text: text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text()}
    boxes = {text: text.get_bbox_patch().get_window_extent(renderer) for text in boxes_of(figure)}
    assert min(text.get_fontsize() for text in extents) >= SMALL
    for text, extent in (extents | boxes).items():
        assert figure.bbox.x0 <= extent.x0 and extent.x1 <= figure.bbox.x1, f"{text.get_text()} is cut"
        assert figure.bbox.y0 <= extent.y0 and extent.y1 <= figure.bbox.y1, f"{text.get_text()} is cut"
    for (one, here), (other, there) in itertools.combinations((extents | boxes).items(), 2):
        width, height = min(here.x1, there.x1) - max(here.x0, there.x0), min(here.y1, there.y1) - max(here.y0, there.y0)
        assert width <= 0 or height <= 0, f"{one.get_text()} and {other.get_text()} overlap"
    for arrow in arrows_of(figure):
        points = arrow.get_transform().transform(arrow.get_path().interpolated(20).vertices)
        for text, extent in extents.items():
            assert not any(extent.contains(*point) for point in points), f"an arrow crosses {text.get_text()}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("z", "multi_scale"), [(True, True), (False, False)])
def test_figure5_draws_what_the_module_has(layout, z, multi_scale):
    unet, graph = LAYOUTS[layout](), trace(layout, z_conditioning=z, multi_scale=multi_scale)
    figure = diagrams.draw_discriminator(graph, "a teacher")
    said = words(figure)
    blocks = len(unet.down_blocks) + (unet.mid_block is not None) + len(unet.up_blocks)
    places = 3 * len(unet.up_blocks) if multi_scale else 1
    assert sum(text.split()[0] in ("before", "at", "after") for text in said) == places
    entries = (len(unet.down_blocks) - 1) * multi_scale + z
    assert sum("zero conv" in text.splitlines() for text in said) == entries
    assert len(boxes_of(figure)) == blocks + places + entries + 3  # x, the stem, the text
    attending = [unet.mid_block, *unet.down_blocks, *unet.up_blocks]
    attending = sum(getattr(block, "has_cross_attention", False) for block in attending)
    assert sum("attends to $c$" in text for text in said) == attending
    skips = [f"×{len(block.resnets)}" for block in unet.up_blocks]
    assert sorted(text for text in said if text.startswith("×")) == sorted(skips)
    way = blocks + 1 - (unet.mid_block is None)  # without a middle, the way through the blocks is the last skip
    assert len(arrows_of(figure)) == way + entries + places + len(skips)
    assert_legible(figure)


@pytest.mark.parametrize(("config", "readouts"), [(SD15, 12), (SDXL, 9)], ids=["sd15", "sdxl"])
def test_figure5_at_the_size_of_the_paper_s_teachers(config, readouts):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    graph = tracing.trace_discriminator(unet, 77, z_conditioning=True, multi_scale=True)
    figure = diagrams.draw_discriminator(graph, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert sum(bool(re.fullmatch(r"(before|at|after) 1×\d+²", text)) for text in words(figure)) == readouts
    assert_legible(figure)


def test_figure4_draws_the_overview(teacher_folder):
    graph = tracing.trace_overview(str(teacher_folder), "bgco", 0.25, z_conditioning=True, multi_scale=True)
    figure = diagrams.draw_overview(graph, ["DDIMScheduler, 50 steps", "guidance 3; 3,000,000 pairs"], "a teacher")
    said = " | ".join(words(figure))
    for word in ("DDIMScheduler, 50 steps", "3,000,000 pairs", "$t$ = 999", "UNet2DConditionModel", "ELatentLPIPS"):
        assert word in said
    assert "D(c, z, x)" in said and "logits: 3 of 1×4², 3 of 1×8², 3 of 1×16²" in said
    assert len(boxes_of(figure)) == 10 and len(arrows_of(figure)) == 14
    assert_legible(figure)
    blind = tracing.trace_overview(str(teacher_folder), "b", 0.25, z_conditioning=False, multi_scale=False)
    figure = diagrams.draw_overview(blind, [], "a teacher")
    said = " | ".join(words(figure))
    assert "D(c, x)" in said and "logits: 1 of 1×16²" in said and len(arrows_of(figure)) == 13


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
