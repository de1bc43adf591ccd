"""COCO captions (Lin et al. 2014) as a benchmark: fixed prompts, and the pictures that drawn ones are compared with.

Reads the official layout: a folder of pictures, and `annotations/captions_{folder}.json` beside it.
"""

import json
from pathlib import Path

import pandas as pd

from diffusion2gan.errors import UserError
from diffusion2gan.seeds import mix

ADDRESS = "http://images.cocodataset.org"
SIZES = {"val2014": "6 GB", "val2017": "1 GB"}  # of the zips


def missing(folder: Path) -> str | None:
    """What of a COCO set is not there, with the address to get it from and its size; None where all is."""
    if not folder.is_dir():
        size = SIZES.get(folder.name, "several GB")
        return f"the pictures {folder}: unpack {ADDRESS}/zips/{folder.name}.zip ({size}) there"
    if not (file := annotations(folder)).is_file():
        return f"the captions {file}: unpack {ADDRESS}/annotations/annotations_trainval{folder.name[-4:]}.zip (241 MB)"
    return None


def annotations(folder: Path) -> Path:
    """The file of captions that belongs to a folder of pictures."""
    return folder.parent / "annotations" / f"captions_{folder.name}.json"


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All pictures (image_id, file) and all captions (caption_id, image_id, caption) of a COCO set, by their ids.

    Raises UserError when something is missing, the captions are not those of the folder, or any picture
    that they name is not in it.
    """
    if lacking := missing(folder):
        raise UserError(f"there are not {lacking}, or set `benchmarks` to where COCO is")
    file = annotations(folder)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        pictures = pd.DataFrame(content["images"])[["id", "file_name"]]
        captions = pd.DataFrame(content["annotations"])[["id", "image_id", "caption"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a file of COCO captions ({error!r}): unpack it again") from error
    here = {path.name for path in folder.iterdir()}
    lost = [name for name in pictures["file_name"] if name not in here]
    if lost:
        raise UserError(
            f"{folder} lacks {len(lost):,} of the {len(pictures):,} pictures that {file} names, the first is "
            f"{lost[0]}: unpack {ADDRESS}/zips/{folder.name}.zip again"
        )
    strangers = set(captions["image_id"]) - set(pictures["id"])
    if strangers:
        raise UserError(f"{file} has captions of pictures that it does not list, the first is {min(strangers)}")
    pictures = pictures.rename(columns={"id": "image_id", "file_name": "file"})
    captions = captions.rename(columns={"id": "caption_id"})
    return pictures.sort_values("image_id", ignore_index=True), captions.sort_values("caption_id", ignore_index=True)


def choose(captions: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """The `count` fixed prompts: pictures in an order that is a hash of (seed, image), of each one caption alike.

    Columns prompt_id, caption, image_id, caption_id. As in GigaGAN's evaluation a picture gives one of its
    five captions. The choice depends on the ids and the seed alone, not on the order of the file. Raises
    UserError when fewer pictures have captions.
    """
    captions = captions.assign(
        caption=captions["caption"].str.split().str.join(" "),  # COCO's end in spaces and line breaks
        place=[mix(seed, image) for image in captions["image_id"]],
        turn=[mix(seed, caption) for caption in captions["caption_id"]],
    )
    captions = captions[captions["caption"] != ""]
    chosen = captions.sort_values(["place", "turn"]).drop_duplicates("image_id").head(count)
    if len(chosen) < count:
        raise UserError(f"only {len(chosen):,} pictures have captions, {count:,} prompts are asked for: ask for fewer")
    chosen = chosen[["caption", "image_id", "caption_id"]].reset_index(drop=True)
    return chosen.rename_axis("prompt_id").reset_index()
