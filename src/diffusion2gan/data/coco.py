"""COCO captions (Lin et al. 2014) as a benchmark: fixed prompts and reference images.

Reads the official layout: a folder of images, and `annotations/captions_{folder}.json` next to it.
"""

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ValidationError

from diffusion2gan.errors import UserError
from diffusion2gan.seeds import mix

ADDRESS = "http://images.cocodataset.org"
SIZES = {"val2014": "6 GB", "val2017": "1 GB"}  # of the zips


class _Image(BaseModel):
    id: int
    file_name: str


class _Caption(BaseModel):
    id: int
    image_id: int
    caption: str


class _Annotations(BaseModel):
    """What is used of a captions file."""

    images: list[_Image]
    annotations: list[_Caption]


def missing(folder: Path) -> str | None:
    """What is missing of a COCO dataset, with its address and download size; None if it is complete."""
    if not folder.is_dir():
        size = SIZES.get(folder.name, "several GB")
        return f"the images {folder}: unpack {ADDRESS}/zips/{folder.name}.zip ({size}) there"
    if not (file := annotations(folder)).is_file():
        return f"the captions {file}: unpack {ADDRESS}/annotations/annotations_trainval{folder.name[-4:]}.zip (241 MB)"
    return None


def annotations(folder: Path) -> Path:
    """The captions file of a folder of images."""
    return folder.parent / "annotations" / f"captions_{folder.name}.json"


def read_coco(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All images (image_id, file) and all captions (caption_id, image_id, caption) of a COCO dataset, sorted by id.

    Raises UserError if files are missing or damaged, if a caption is no text, if an id or a name appears twice, or if
    the captions and the images do not belong together.
    """
    if lacking := missing(folder):
        raise UserError(f"missing: {lacking}, or set `benchmarks` to where COCO is")
    file = annotations(folder)
    try:
        content = _Annotations.model_validate_json(file.read_bytes(), strict=True)
    except (OSError, ValidationError) as error:
        reason = _first(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{file} is not a file of COCO captions ({reason}): unpack it again") from error
    images = pd.DataFrame([vars(each) for each in content.images], columns=list(_Image.model_fields))
    captions = pd.DataFrame([vars(each) for each in content.annotations], columns=list(_Caption.model_fields))
    for table, column in ((images, "id"), (images, "file_name"), (captions, "id")):
        if (again := table[column].duplicated()).any():
            raise UserError(f"{file} has the {column} {table[column][again].iloc[0]} twice: unpack it again")
    here = {path.name for path in folder.iterdir() if path.exists()}
    lost = [name for name in images["file_name"] if name not in here]
    if lost:
        raise UserError(
            f"{folder} lacks {len(lost):,} of the {len(images):,} images that {file} names, the first is "
            f"{lost[0]}: unpack {ADDRESS}/zips/{folder.name}.zip again, or the captions if they are of other images"
        )
    strangers = set(captions["image_id"]) - set(images["id"])
    if strangers:
        raise UserError(f"{file} has captions of images that it does not list, the first is {min(strangers)}")
    images = images.rename(columns={"id": "image_id", "file_name": "file"})
    captions = captions.rename(columns={"id": "caption_id"})
    return images.sort_values("image_id", ignore_index=True), captions.sort_values("caption_id", ignore_index=True)


def _first(error: ValidationError) -> str:
    """Where a file is wrong first, and what should be there."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")


def choose_prompts(captions: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Choose `count` images, and one caption of each, by a hash of the seed and their ids.

    Columns prompt_id, caption, image_id, caption_id. One of an image's five captions is used, as in GigaGAN's
    evaluation. The choice does not depend on the order of the file. Raises UserError if fewer than `count` images have
    captions.
    """
    captions = captions.assign(
        caption=captions["caption"].str.split().str.join(" "),  # COCO's end in spaces and line breaks
        place=[mix(seed, image) for image in captions["image_id"]],
        turn=[mix(seed, caption) for caption in captions["caption_id"]],
    )
    captions = captions[captions["caption"] != ""]
    chosen = captions.sort_values(["place", "turn"]).drop_duplicates("image_id").head(count)
    if len(chosen) < count:
        raise UserError(f"only {len(chosen):,} images have captions, {count:,} prompts were requested: request fewer")
    chosen = chosen[["caption", "image_id", "caption_id"]].reset_index(drop=True)
    return chosen.rename_axis("prompt_id").reset_index()
