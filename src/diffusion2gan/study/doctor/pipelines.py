"""Teachers and published pipelines: a folder, or the snapshot of a hub id in this machine's cache."""

import math
import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open

from diffusion2gan.configurations import fetch_teacher
from diffusion2gan.errors import UserError
from diffusion2gan.io import read_json
from diffusion2gan.study.doctor.finding import MISSING, SOUND, UNKNOWN, WRONG, Answer, nothing_there, origin
from diffusion2gan.study.entries import ModelEntry, TeacherEntry
from diffusion2gan.study.study import Study

FETCH = "fetch it again"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
UNREAD = ("safety_checker", "feature_extractor", "image_encoder")  # parts that are not loaded
COPIES = re.compile(r"\.(fp16|non_ema)[.-]")  # the same weights in half precision, or not averaged


def teacher(study: Study, entry: TeacherEntry) -> Answer:
    """Whether a teacher is whole, as large as the scale states, and of a kind that is understood."""
    state, said = pipeline(study, entry.path, f"teachers.{entry.name}.path")
    if state != SOUND or entry.space == "pixel":
        return state, said
    folder = fetch_teacher(local(entry.path))
    unet = folder / "unet"
    config = read_json(unet / "config.json", FETCH)
    latent = [config.get("in_channels"), *[config.get("sample_size")] * 2]
    count, stated = sum(weights(unet).values()), f"scales/{study.scale}.yaml states"
    if latent != entry.latent:
        return WRONG, f"its latents are {latent}, {stated} {entry.latent}"
    if count != entry.weights.unet:
        return WRONG, f"its U-Net has {count:,} weights, {stated} {entry.weights.unet:,}"
    return SOUND, said


def model(study: Study, entry: ModelEntry) -> Answer:
    """Whether a published pipeline is whole, and the weights of its U-Net are there, if they come from elsewhere."""
    state, said = pipeline(study, entry.pipeline, f"models.{entry.name}.pipeline")
    if state != SOUND or not entry.unet or Path(entry.unet).is_file():
        return state, said
    repository, file = "/".join(entry.unet.split("/")[:2]), "/".join(entry.unet.split("/")[2:])
    if cached(repository, file) is None:
        return MISSING, f"`hf download {repository} {file}`{origin(study, repository)}"
    return SOUND, said


def pipeline(study: Study, path: str, key: str) -> Answer:
    """Whether every network of a pipeline has whole weights. Raises UserError for a damaged file."""
    folder = local(path)
    if folder is None:
        if HUB_ID.fullmatch(path):
            return MISSING, f"`hf download {path}`{origin(study, path)}"
        return nothing_there(study, path, key)
    index = folder / "model_index.json"
    parts = read_json(index, FETCH) if index.exists() else {}
    named = [name for name, each in parts.items() if isinstance(each, list) and each and each[0] and name not in UNREAD]
    if absent := [name for name in named if not (folder / name).is_dir()]:
        return MISSING, f"{folder} has no {absent[0]}: {FETCH}"
    networks = [name for name in named if (folder / name / "config.json").is_file()] or ["."]
    found = {name: weights(folder / name) for name in networks}
    empty = [name for name, each in found.items() if not each]
    if pickled := [name for name in empty if any((folder / name).glob("*.bin"))]:
        return UNKNOWN, f"the weights of {folder / pickled[0]} are in .bin files, which have no header to look at"
    if empty:
        return MISSING, f"{folder / empty[0]} has no .safetensors: fetch it again"
    return SOUND, f"{sum(sum(each.values()) for each in found.values()):,} weights in {folder}"


def local(path: str) -> Path | None:
    """The folder of a pipeline: the path itself, or the snapshot of a hub id in this machine's cache."""
    if Path(path).exists():
        return Path(path)
    index = cached(path, "model_index.json")
    return index.parent if index else None


def cached(repository: str, file: str) -> Path | None:
    """A file of a repository of the hub in this machine's cache; None if it is not there."""
    try:
        found = try_to_load_from_cache(repository, file)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def weights(path: Path) -> dict[str, int]:
    """The tensors in a file or in a folder's .safetensors, and their numbers of weights; copies are left out.

    Only headers are read; they also state how long a file is. Raises UserError for a damaged file.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    found = {}
    for file in [file for file in files if not COPIES.search(file.name)] or files:
        try:
            with safe_open(file, "pt") as opened:
                found |= {name: math.prod(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} is damaged ({error}): {FETCH}") from error
    return found
