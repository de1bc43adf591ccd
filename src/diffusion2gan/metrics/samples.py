"""The samples that are measured, and the images that they are compared with."""

from pathlib import Path

import pandas as pd
from pydantic import Field

from diffusion2gan.errors import UserError
from diffusion2gan.io import read_json
from diffusion2gan.pairs.prompts import read_captions
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import ImageFiles, image_paths, read_recipe
from diffusion2gan.settings import ScoringSettings


class ScoredImages(ScoringSettings):
    """The folders of the images and of the benchmark that they are measured against."""

    images: Path
    benchmark: Path
    teacher_images: Path | None = Field(
        None, description="the teacher's samples of the same prompts and noise, for dreamsim"
    )
    diversity: Path | None = Field(None, description="several samples of each prompt, for dreamdiv")


class Samples:
    """The images of a folder, the recipe that they were sampled with, and the prompts that they show.

    `recipe` is None for images from elsewhere. Raises UserError if the images are not those that the folder or the
    benchmark declares.
    """

    def __init__(self, settings: ScoredImages):
        self.settings = settings
        self.images = self._read(settings.images)
        self.images.check_sizes()
        self.recipe = read_recipe(settings.images)
        self.prompts = self._prompts()
        self.captions = self.prompts["caption"].tolist()

    def reference(self) -> ImageFiles:
        """The benchmark's images. Raises UserError if there are not as many as its `benchmark.json` declares."""
        real = self._read(self.settings.benchmark / "images")
        declared = self._declared().get("pictures", len(real))
        if declared != len(real):
            raise UserError(
                f"{self.settings.benchmark}/images holds {len(real)} of {declared} images: make it again with "
                "make_benchmark.py"
            )
        return real

    def classes(self) -> dict[str, list[list[str]]] | None:
        """The captions of the classes that the benchmark's prompts are labelled with; None if they have no labels."""
        return self._declared().get("classes")

    def of_the_teacher(self) -> ImageFiles:
        """The teacher's samples of the same prompts from the same noise."""
        folder = self.settings.teacher_images
        if folder is None:
            raise UserError("dreamsim compares with the teacher: give the folder of its samples as --teacher_images")
        theirs, ours = read_recipe(folder) or {}, self.recipe or {}
        same = ("seed", "captions_sha256", "count")
        if any(theirs.get(name) != ours.get(name) for name in same):
            raise UserError(
                f"{folder} and {self.settings.images} do not have the same noise and prompts: sample them alike"
            )
        return self._read(folder)

    def several(self) -> tuple[ImageFiles, int]:
        """Several samples of each prompt, and their number per prompt."""
        folder = self.settings.diversity
        recipe = read_recipe(folder) if folder else None
        if recipe is None or recipe.get("repeats", 1) < 2:
            raise UserError(
                "dreamdiv compares samples of one prompt: make them with sample.py --repeats 8 and give their folder "
                "as --diversity"
            )
        return self._read(folder), recipe["repeats"]

    def _read(self, folder: Path) -> ImageFiles:
        return ImageFiles(image_paths(folder), self.settings.resolution, self.settings.resize_filter)

    def _prompts(self) -> pd.DataFrame:
        """The benchmark's prompts, a row for each image. Raises UserError if the images were sampled for others."""
        path, count = self.settings.benchmark / "prompts.parquet", len(self.images)
        if (found := len(read_captions(path))) < count:
            raise UserError(f"{self.settings.images} holds {count} images, {path} only {found} prompts")
        prompts = pd.read_parquet(path)[:count]
        sampled = (self.recipe or {}).get("captions_sha256")
        if sampled and sampled != json_sha256(prompts["caption"].tolist()):
            raise UserError(f"{self.settings.images} was sampled for other prompts than {path} holds: sample it again")
        return prompts

    def _declared(self) -> dict:
        """The content of `benchmark.json`; empty if a benchmark was put together by hand."""
        file = self.settings.benchmark / "benchmark.json"
        return read_json(file, "make the benchmark again with make_benchmark.py") if file.exists() else {}
