"""The human preference study (Sec. 4.3, Figure 6): blind pairs of pictures of one prompt, as a page for raters.

The page does not say who drew what. The key does, and raters are not given it. The paper follows the study of LADD
(Sauer et al. 2024), whose protocol was not available to us: the wording, sides, order and ties are all ours.
"""

import base64
import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import ImageFiles, image_paths, read_recipe

TEMPLATE = Path(__file__).with_name("human_study.html")

# Realism first, and without the prompt: who knows what a picture should show judges it by that too.        # ours
QUESTIONS = {
    "realism": "Which picture looks more realistic?",
    "alignment": "Which picture shows better what the text says?",
}
PROMPTED = ("alignment",)

PictureId = tuple[str, int]  # the row that drew it, and its number in the row's folder


def choose(captions: Sequence[str], count: int, seed: int) -> dict[int, str]:
    """`count` of the captions by their numbers, at random. UserError where there are fewer."""
    if count > len(captions):
        raise UserError(f"the study asks for {count} prompts, the benchmark has {len(captions)}: ask for fewer")
    return {number: captions[number] for number in random.Random(seed).sample(range(len(captions)), count)}


def check_alike(folders: Mapping[str, Path], captions: Sequence[str]) -> None:
    """UserError unless the pictures of all rows are of these captions."""
    for folder in folders.values():
        count, drawn = len(image_paths(folder)), read_recipe(folder) or {}
        if count < len(captions) or drawn.get("captions_sha256", json_sha256(captions)) != json_sha256(captions):
            raise UserError(f"{folder} is not of the {len(captions)} prompts of the benchmark: draw it again")


def encode(folder: Path, numbers: Sequence[int], resolution: int, resize_filter: str) -> list[bytes]:
    """Pictures of a folder as lossless WebP, all of one size: otherwise it would tell who drew them."""
    files = image_paths(folder)
    encoded = []
    for picture in ImageFiles([files[number] for number in numbers], resolution, resize_filter):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "WEBP", lossless=True)
        encoded.append(buffer.getvalue())
    return encoded


def trials(
    pairs: Sequence[tuple[str, str]], captions: Mapping[int, str], pictures: Mapping[PictureId, bytes], seed: int
) -> pd.DataFrame:
    """The key, a line for each trial, as the page shows them: trial, question, row, against, left, right, picture,
    caption.

    `left` and `right` are the rows that are shown there: for each question and pair each as often, or once more. The
    ids under `trial` are random and change with the pictures, so that answers to another page are noticed.
    """
    chance = random.Random(f"{seed} {_fingerprint(pictures)}")
    lines = []
    for question in QUESTIONS:
        block = []
        for row, against in pairs:
            sides = [(row, against)[number % 2] for number in range(len(captions))]
            chance.shuffle(sides)
            for (picture, caption), left in zip(captions.items(), sides, strict=True):
                trial = {"question": question, "row": row, "against": against, "left": left}
                trial["right"] = against if left == row else row
                block.append(trial | {"picture": picture, "caption": caption})
        chance.shuffle(block)
        lines += block
    return pd.DataFrame([{"trial": f"{chance.getrandbits(48):012x}", **line} for line in lines])


def page(key: pd.DataFrame, pictures: Mapping[PictureId, bytes], side: int, attribution: str = "") -> str:
    """The page of a key as one HTML file that needs nothing else: `pictures` are WebP, `side` pixels wide and high."""
    shown: dict[PictureId, int] = {}  # in the order of the trials, which tells nothing
    entries = []
    for trial in key.itertuples():
        left, right = (shown.setdefault((row, trial.picture), len(shown)) for row in (trial.left, trial.right))
        entry = {"id": trial.trial, "question": trial.question, "left": left, "right": right}
        entries.append(entry | ({"caption": trial.caption} if trial.question in PROMPTED else {}))
    study = {
        "id": hashlib.sha256(" ".join(key["trial"]).encode()).hexdigest()[:12],
        "side": side,
        "attribution": attribution,
        "questions": QUESTIONS,
        "trials": entries,
        "pictures": [f"data:image/webp;base64,{base64.b64encode(pictures[each]).decode()}" for each in shown],
    }
    data = json.dumps(study, ensure_ascii=False).replace("<", "\\u003c")  # no caption ends the script
    return TEMPLATE.read_text(encoding="utf-8").replace("{{study}}", data)


def _fingerprint(pictures: Mapping[PictureId, bytes]) -> str:
    digest = hashlib.sha256()
    for (row, number), content in pictures.items():
        digest.update(f"{row} {number} {len(content)} ".encode() + content)
    return digest.hexdigest()
