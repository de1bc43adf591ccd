"""Figures 4 and 5: the networks as they were traced, as boxes and arrows. All lengths are in inches."""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence

import matplotlib.style
from matplotlib.figure import Figure

from diffusion2gan.report.canvas import LINE, Box, Canvas
from diffusion2gan.report.figures import SMALL, STYLE, WIDTH
from diffusion2gan.report.tracing import Block, Overview, Shape, TracedDiscriminator

ENCODER, DECODER, READOUTS = 1.55, 2.88, {"before": 3.68, "at": 4.11, "after": 4.54}  # columns of Figure 5
ROW = 0.9  # of Figure 5
PARTS = {"b": "flips", "g": "geometry", "c": "colour", "o": "cutout"}  # of an ensemble


def overview(traced: Overview, solving: Sequence[str], source: str) -> Figure:
    """Figure 4: pairs of the teacher, the student, and the two losses that it is trained with.

    `solving` says, in lines, how the pairs are made; `source` is where the traced networks are from.
    """
    metric, judge, latent = traced.metric, traced.discriminator, size(traced.generator.shape)
    unet = f"{traced.generator.kind}, {quantity(traced.generator.weights)}"
    once = f"one evaluation, at $t$ = {traced.timestep}"
    encoded = [traced.text_encoder.kind, quantity(traced.text_encoder.weights), size(traced.text_encoder.shape)]
    transforms = textwrap.wrap("T: " + ", ".join(PARTS[letter] for letter in metric.preset), 20)
    trunk = f"{len(metric.taps)} taps of a {metric.trunk}, {quantity(metric.weights)}"
    looked_at = ["for looking only:", "never in training", size(traced.decoder.shape)]
    maps = Counter(size(readout.logits) for readout in judge.readouts)
    judging = [
        f"{judge.kind}, {quantity(judge.weights)}, at $t$ = {judge.timestep}",
        "logits: " + ", ".join(f"{count} of {shape}" for shape, count in maps.items()),
    ]
    with matplotlib.style.context(STYLE):
        canvas = Canvas(WIDTH, 3.2)
        z = canvas.box(Box(0.5, 2.25, 0.8, 0.36), "data", "noise $z$", [latent])
        text = canvas.box(Box(0.5, 1.32, 0.8, 0.5), "frozen", "text encoder", encoded)
        prompt = canvas.box(Box(0.5, 0.72, 0.8, 0.24), "data", "prompt $c$")
        teacher = canvas.box(Box(2.0, 2.74, 1.54, 0.6), "frozen", "teacher's ODE, in advance", [unet, *solving])
        student = canvas.box(Box(2.0, 1.75, 1.54, 0.48), "trained", "generator $G(z, c)$", [unet, once])
        x = canvas.box(Box(3.25, 2.74, 0.6, 0.36), "data", "target $x$", [latent])
        found = canvas.box(Box(3.31, 1.75, 0.48, 0.36), "data", r"$\hat{x}$", [latent])
        loss = canvas.box(Box(4.2, 2.25, 1.1, 0.6), "loss", "regression (Eq. 4)", [metric.kind, trunk, *transforms])
        decoder = canvas.box(Box(4.27, 1.24, 0.9, 0.5), "frozen", "VAE decoder", looked_at, dashed=True)
        seen = ", ".join(["c", "z", "x"] if judge.z else ["c", "x"])
        name = f"discriminator $D({seen})$: GAN loss (Eq. 6)"
        judged = canvas.box(Box(2.97, 0.54, 3.48, 0.48), "trained", name, judging)

        canvas.arrow(prompt.top, text.bottom, kind="text")
        for box in (teacher, student, judged):
            canvas.route(text, 1.0, box, -0.09, "text")
        for box in (teacher, student, judged) if judge.z else (teacher, student):
            canvas.route(z, 1.11, box, 0.09, "noise")
        canvas.arrow(teacher.right, x.left)
        canvas.arrow(student.right, found.left)
        canvas.arrow(x.right, (loss.x, x.y), loss.top)
        canvas.arrow(found.right, (loss.x, found.y), loss.bottom)
        canvas.arrow((3.68, found.y), (3.68, decoder.y), decoder.left, dashed=True)
        beside = (3.0, x.bottom[1])  # x̂
        canvas.arrow(beside, (beside[0], judged.top[1]))
        canvas.arrow(found.bottom, (found.x, judged.top[1]))
        canvas.text(((beside[0] + found.x) / 2, 1.1), "or")
        canvas.text(
            (WIDTH / 2, 0.12),
            f"blue: frozen, orange: trained, green: losses; networks traced from {source}",
            color="0.35",
        )
    return canvas.figure


def discriminator(traced: TracedDiscriminator, source: str) -> Figure:
    """Figure 5: encoder on the left, decoder on the right, and what enters and is read out at each scale.

    A box is the wider the more channels its features have, and the higher the larger their side. `source` is where
    the traced network is from.
    """
    blocks = [*traced.encoder, traced.middle, *traced.decoder]
    channels, sides = [block.shape[0] for block in blocks], [block.shape[-1] for block in blocks]

    def box(x: float, y: float, of: Block, width: float = 0) -> Box:
        box = Box(x, y, width or _between(0.78, 1.04, of.shape[0], channels), _between(0.5, 0.6, of.shape[-1], sides))
        canvas.box(box, "trained", size(of.shape), [*wrapped(of.kind, box.width), quantity(of.weights)])
        if of.attends:
            canvas.badge((box.right[0] - 0.03, box.top[1] - 0.03), "c")
        return box

    with matplotlib.style.context(STYLE):
        height = ROW * len(traced.encoder) + 1.64
        canvas = Canvas(WIDTH, height)
        head = height - 0.24
        rows = [head - ROW * (level + 1.02) for level in range(len(traced.encoder))]

        stem = canvas.box(Box(ENCODER, head, 0.78, 0.36), "trained", size(traced.stem.shape), [traced.stem.kind])
        x = canvas.box(Box(0.33, head, 0.54, 0.36), "data", "$x$", [size(traced.shape)])
        canvas.arrow(x.right, stem.left)
        encoder = [box(ENCODER, y, each) for y, each in zip(rows, traced.encoder, strict=True)]
        entries = [("$z$", traced.z), *(("resized $x$", each.entry) for each in traced.encoder[1:])]
        for before, after, (name, entry) in zip([stem, *encoder], encoder, entries, strict=False):
            canvas.arrow(before.bottom, after.top)
            if entry:
                _enter(canvas, (ENCODER, (before.bottom[1] + after.top[1]) / 2), name, entry)

        middle = box((ENCODER + DECODER) / 2, rows[-1] - 0.78 * ROW, traced.middle, DECODER - ENCODER + 0.3)
        canvas.arrow(encoder[-1].bottom, (ENCODER, middle.top[1]))

        beneath = (DECODER, middle.top[1])
        for each in traced.decoder:
            skip, here = encoder[each.level], box(DECODER, rows[each.level], each)
            canvas.arrow(beneath, here.bottom)
            canvas.arrow(skip.right, here.left)
            canvas.text(((skip.right[0] + here.left[0]) / 2, here.y + 0.08), f"×{each.skips}")
            beneath, end = here.top, here
            for readout in sorted(each.readouts, key=lambda readout: READOUTS[readout.place]):
                lines = [readout.place, size(readout.logits)]
                read = canvas.box(Box(READOUTS[readout.place], here.y, 0.39, 0.28), "loss", "", lines)
                canvas.arrow(end.right, read.left, kind="loss", head=False)
                end = read

        text = canvas.box(Box(DECODER, head, 0.78, 0.36), "text", "text $c$", [size(traced.text)])
        canvas.badge((text.right[0] - 0.03, text.top[1] - 0.03), "c")
        notes = ["c: by cross-attention", "+: through a convolution", "that starts at zero", "×: skip connections"]
        for number, line in enumerate(notes):
            canvas.text((text.right[0] + 0.12, head + 0.15 - number * SMALL * LINE), line, ha="left")
        canvas.text((WIDTH / 2, 0.23), "green: logits, of the features before, at and after the skip connection")
        whose = f"{traced.kind}, {quantity(traced.weights)}, at $t$ = {traced.timestep}, traced from {source}"
        canvas.text((WIDTH / 2, 0.1), whose, color="0.35")
    return canvas.figure


def quantity(weights: int) -> str:
    """A number of weights in three digits: 859520964 → "860 M"."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if weights >= 10**power:
            return f"{weights / 10**power:#.3g}".rstrip(".") + f" {letter}"
    return str(weights)


def size(shape: Shape) -> str:
    """A shape: channels × side², or tokens × width."""
    return f"{shape[0]}×{shape[1]}²" if len(shape) == 3 and shape[1] == shape[2] else "×".join(map(str, shape))


def wrapped(kind: str, width: float) -> list[str]:
    """The name of a class in lines that fit a box, broken before a capital."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind)
    return [line.replace(" ", "") for line in textwrap.wrap(words, int(width / 0.046))]


def _enter(canvas: Canvas, at: tuple[float, float], name: str, shape: Shape) -> None:
    """What is added to the trunk at a point, from the left, through a zero-initialised convolution."""
    source = canvas.box(Box(0.33, at[1], 0.54, 0.28), "data", "", [name, size(shape)])
    convolution = canvas.box(Box(0.9, at[1], 0.34, 0.28), "trained", "", ["zero", "conv"])
    canvas.arrow(source.right, convolution.left)
    canvas.arrow(convolution.right, canvas.plus(at).left)


def _between(low: float, high: float, value: int, values: Sequence[int]) -> float:
    """From low to high as a value goes, in its logarithm, from the least of the values to the greatest."""
    least, most = math.log2(min(values)), math.log2(max(values))
    return high if least == most else low + (high - low) * (math.log2(value) - least) / (most - least)
