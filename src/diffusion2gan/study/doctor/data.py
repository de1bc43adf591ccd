"""Prompts, labelled images, judgements and benchmarks. Of each, the first, a middle and the last part are read."""

from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from diffusion2gan.data import bapps, coco
from diffusion2gan.data.sources import FETCHED, SOURCES
from diffusion2gan.errors import UserError
from diffusion2gan.images import load_image
from diffusion2gan.io import data_files, data_folders
from diffusion2gan.pairs import prompts
from diffusion2gan.pixel import cifar10
from diffusion2gan.study.doctor.finding import (
    FETCHABLE,
    INSIDE,
    MISSING,
    SOUND,
    WRONG,
    Answer,
    not_in_scale,
    nothing_there,
    origin,
    size,
    spread,
)  # fmt: skip
from diffusion2gan.study.entries import BenchmarkEntry, PromptsEntry
from diffusion2gan.study.study import Study


def public_file(study: Study, place: str, key: str) -> Answer:
    """Whether a file is there, or a job can fetch it."""
    path = Path(place)
    if path.is_file():
        return (SOUND, size(path.stat().st_size)) if path.stat().st_size else (WRONG, "the file is empty: delete it")
    if place in FETCHED:
        return FETCHABLE, f"from {FETCHED[place]['url']}{origin(study, place)}"
    return nothing_there(study, place, key)


def captions(study: Study, name: str, entry: PromptsEntry | None, pairs: int) -> Answer:
    """Whether a list of prompts can be read, and how many captions it has for so many pairs."""
    if entry is None:
        return not_in_scale(study, f"prompts.{name}")
    if entry.path in SOURCES or entry.path == "unconditional":
        return INSIDE
    if not Path(entry.path).exists():
        return nothing_there(study, entry.path, f"prompts.{name}")
    count, shown = prompts.look_into(entry.path, entry)
    if not shown:
        return WRONG, "no caption was found that passes the filter of scores"
    quoted = ", ".join(f"'{caption[:40]}'" for caption in shown)
    fewer = f", fewer than the {pairs:,} pairs, which share them" if count < pairs else ""
    return SOUND, f"{count:,} captions before they are filtered{fewer}; some are {quoted}"


def labelled(study: Study, split: str) -> Answer:
    """Whether a split of the labelled images has all classes, and its images can be read."""
    config = study.config.latentlpips
    if config.images in SOURCES:
        return INSIDE
    folder = Path(config.images, split)
    if not folder.is_dir():
        return nothing_there(study, config.images, "latentlpips.images")
    classes = data_folders(folder)
    count, wanted = len(classes), config.vgg.classes
    if count > wanted or (count < wanted and split == "train"):
        return WRONG, f"{folder} has {count:,} folders of classes, `vgg.classes` is {wanted:,}"
    return SOUND, f"{count:,} classes; " + ", ".join(_first_image(folder / each) for each in spread(classes))


def judgements(study: Study, split: str, count: int) -> Answer:
    """Whether a split of BAPPS has `count` judgements that can be read."""
    config = study.config.latentlpips
    if config.judgements in SOURCES:
        return SOUND, f"{INSIDE[1]}; synthetic"
    if not Path(config.judgements).exists():
        return nothing_there(study, config.judgements, "latentlpips.judgements")
    found = bapps.BAPPS(Path(config.judgements), split, config.calibration.size.pixel)
    read = [found[index].subset for index in spread(range(len(found)))]
    if len(found) < count:
        return WRONG, f"{len(found):,} judgements, `calibration` takes {count:,}"
    return SOUND, f"{len(found):,} judgements, the first of {read[0]} and the last of {read[-1]}"


def benchmark(study: Study, entry: BenchmarkEntry) -> Answer:
    """Whether a benchmark has as many images as the scale takes, and they can be read."""
    key = f"benchmarks.{entry.name}"
    if entry.source is None:
        return not_in_scale(study, key)
    path = Path(entry.source)
    if entry.source in SOURCES:
        return INSIDE
    if path.name in coco.SIZES and (lacking := coco.missing(path)):
        return MISSING, lacking
    if entry.source in FETCHED and path.is_file():
        cifar10.check(path)
    if not path.is_dir():
        return public_file(study, entry.source, key)
    images, found = coco.read_coco(path)
    coco.choose_prompts(found, entry.pictures, study.config.seed)
    return SOUND, f"{len(images):,} images; " + ", ".join(_opened(path / file) for file in spread(images["file"]))


def _first_image(folder: Path) -> str:
    images = data_files(folder, set(IMG_EXTENSIONS))
    if not images:
        raise UserError(f"{folder} has no images: unpack it again")
    return _opened(images[0])


def _opened(path: Path) -> str:
    """The name and size of an image, which is read as a whole."""
    height, width = load_image(path).shape[:2]
    return f"{path.name} {width} × {height}"
