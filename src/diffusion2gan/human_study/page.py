"""The human preference study (Sec. 4.3, Figure 6): blind pairs of images of the same prompt, as a page for raters.

The page does not say which model made an image. The key does, and raters do not get it. The paper follows the study of
LADD (Sauer et al. 2024), whose protocol was not available to us. So the wording, sides, order and ties are ours.
"""

import base64
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.provenance import json_sha256
from diffusion2gan.report.rendering import render
from diffusion2gan.sampling.folder import ImageFiles, image_paths, read_recipe

# Realism comes first and without the prompt: raters who know the prompt also judge by it.        # ours
QUESTIONS = {
    "realism": "Which picture looks more realistic?",
    "alignment": "Which picture matches the text better?",
}
PROMPTED = ("alignment",)

PictureId = tuple[str, int]  # the row that made it, and its number in the folder of the row


def choose(captions: Sequence[str], count: int, seed: int) -> dict[int, str]:
    """`count` random captions by number. Raises UserError if there are fewer."""
    if count > len(captions):
        raise UserError(f"the study asks for {count} prompts, the benchmark has {len(captions)}: ask for fewer")
    return {number: captions[number] for number in random.Random(seed).sample(range(len(captions)), count)}


def check_alike(folders: Mapping[str, Path], captions: Sequence[str]) -> None:
    """Raises UserError unless the images of all rows show these captions."""
    for folder in folders.values():
        count, recipe = len(image_paths(folder)), read_recipe(folder) or {}
        if count < len(captions) or recipe.get("captions_sha256", json_sha256(captions)) != json_sha256(captions):
            raise UserError(f"{folder} does not show the {len(captions)} prompts of the benchmark: sample it again")


def encode(folder: Path, numbers: Sequence[int], resolution: int, resize_filter: str) -> list[bytes]:
    """Images of a folder as lossless WebP, all of the same size, so that the size does not reveal the model."""
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
    """The key, one line per trial in page order: trial, question, row, against, left, right, picture, caption.

    `left` and `right` are the rows shown there. For each question and pair, each row is on the left equally often, or
    once more. The ids under `trial` are random and change with the images, so answers to another page are detected.
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


def render_study(key: pd.DataFrame, pictures: Mapping[PictureId, bytes], side: int, attribution: str = "") -> str:
    """The trials of a key as one self-contained HTML page. `pictures` are WebP, `side` pixels wide and high."""
    shown: dict[PictureId, int] = {}  # in the order of the trials, which reveals nothing
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
    return render("human_study.html", study=study)


def _fingerprint(pictures: Mapping[PictureId, bytes]) -> str:
    digest = hashlib.sha256()
    for (row, number), content in pictures.items():
        digest.update(f"{row} {number} {len(content)} ".encode() + content)
    return digest.hexdigest()
