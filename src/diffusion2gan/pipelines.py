"""Loading a diffusers pipeline from a folder or the hub, with all weights of its networks."""

import importlib
import inspect
import json
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from safetensors import SafetensorError, safe_open

from diffusion2gan.errors import UserError
from diffusion2gan.weights import check_keys, check_weights, reason, refuse_pointer

# options for loading each kind of pipeline; the parts that are None change no image from a text
KINDS = {
    "StableDiffusionPipeline": {"safety_checker": None, "requires_safety_checker": False, "image_encoder": None},
    "StableDiffusionXLPipeline": {"add_watermarker": False, "image_encoder": None},
}
# the classes of networks that are loaded
NETWORKS = {
    "unet": ("UNet2DConditionModel",),
    "transformer": ("PixArtTransformer2DModel", "Transformer2DModel"),  # the older name
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "T5EncoderModel"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}
# packages that read a kind of tokenizer; transformers' own message asks for another one
NEEDED = {"T5Tokenizer": ("sentencepiece", "protobuf")}
WEIGHTS = re.compile(r"(?:diffusion_pytorch_model|model)(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors")  # with its variant
PICKLES = ("diffusion_pytorch_model.bin", "pytorch_model.bin")  # both libraries read only tensors from them
# weights in a file that no layer uses and that may be ignored: buffers of older libraries, and what a whole CLIP has
# beside its text encoder
HARMLESS = re.compile(r"position_ids$|y_embedding$|^(vision_model|visual_projection|text_projection|logit_scale)\b")
ERRORS = (
    OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError, SafetensorError,
    pickle.UnpicklingError,
)  # fmt: skip


def load_pipeline(
    path: str, dtype: torch.dtype, kinds: dict[str, dict], kind: str | None = None, **parts: object
) -> DiffusionPipeline:
    """Load a pipeline of one of the `kinds` (class → options) from a folder or the hub; `kind` overrides its class.

    `parts` replace those of the pipeline, such as `unet`, which are then not read.
    Raises UserError if it is missing, of another kind, incomplete, or not accessible on the hub.
    """
    folder, config = fetch(path, kinds, kind)
    found = kind or config["_class_name"]
    whole = getattr(diffusers, found)
    _, tokenizer = config.get("tokenizer") or (None, None)
    if lacking := [package for package in NEEDED.get(tokenizer, ()) if not _installed(package)]:
        raise UserError(f"the tokenizer of '{path}' needs {' and '.join(lacking)}: pip install {' '.join(lacking)}")
    for name in inspect.signature(whole.__init__).parameters:
        if name in NETWORKS and name not in parts:
            parts[name] = load_network(_network_class(path, name, config), folder / name, dtype)
    try:
        with _silent():
            pipeline = whole.from_pretrained(folder, dtype=dtype, **kinds[found], **parts)
    except Exception as error:  # tokenizers raises no other class
        raise UserError(f"'{path}' is not the folder of a diffusers pipeline: {reason(error)}") from error
    pipeline.register_to_config(_name_or_path=path)
    for name in ("tokenizer", "tokenizer_2"):
        if name in pipeline.components:
            encoder = pipeline.components[name.replace("tokenizer", "text_encoder")]
            _fit_tokenizer(folder / name, pipeline.components[name], encoder.config)
    return pipeline


def fetch(path: str, kinds: dict[str, dict], kind: str | None = None) -> tuple[Path, dict]:
    """The folder of a pipeline of one of the `kinds`, fetched from the hub if it is not one, and its configuration.

    Raises UserError if it is missing, of another kind, or not accessible on the hub.
    """
    try:
        config = DiffusionPipeline.load_config(path)
        found = kind or config.get("_class_name")
        if found not in kinds:
            raise UserError(f"'{path}' is a {found}, it must be a {' or a '.join(kinds)}: choose another")
        if Path(path).is_dir():
            return Path(path), config
        with _silent():
            folder = getattr(diffusers, found).download(path, **kinds[found])
        return Path(folder), config
    except UserError:
        raise
    except ERRORS as error:
        said = reason(error)
        if Path(path).exists():
            raise UserError(f"'{path}' is not the folder of a diffusers pipeline: {said}") from error
        if "gated" in str(error).lower():
            raise UserError(
                f"'{path}' is gated: accept its terms at https://huggingface.co/{path} and log in with `hf auth login`"
            ) from error
        raise UserError(
            f"'{path}' is neither a folder nor a pipeline that could be found on the hub: without a "
            f"network, fetch it beforehand with `hf download {path}` ({said})"
        ) from error


def load_network(kind: type, folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """A network of diffusers or transformers from its folder, with every weight of it.

    If the folder has only one variant of the files, such as `fp16`, it is read; without safetensors, a pickle of
    tensors. Raises UserError for any other folder.
    """
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        pickled = next((Path(folder, name) for name in PICKLES if Path(folder, name).is_file()), None)
        if pickled and not any(Path(folder).glob("*.safetensors*")):
            refuse_pointer(pickled)
            variant, options["use_safetensors"] = None, False
        else:
            variant, options["use_safetensors"] = _variant(Path(folder)), True
        with _silent():
            network, info = kind.from_pretrained(folder, dtype=dtype, variant=variant, **options)
    except UserError:
        raise
    except ERRORS as error:
        raise UserError(f"'{folder}' is not the folder of a {kind.__name__}: {reason(error)}") from error
    unexpected = [name for name in info["unexpected_keys"] if not HARMLESS.search(name)]
    check_keys(folder, info["missing_keys"], unexpected, [name for name, *_ in info["mismatched_keys"]])
    check_weights(network, folder)
    return network


def _network_class(path: str, name: str, config: dict) -> type:
    """The class of a network, as the configuration of its pipeline names it."""
    library, found = config.get(name) or (None, None)
    if library not in ("diffusers", "transformers") or found not in NETWORKS[name]:
        raise UserError(f"'{path}' has {found or 'nothing'} as its {name}: choose one with a {NETWORKS[name][0]}")
    return getattr(importlib.import_module(library), found)


def _variant(folder: Path) -> str | None:
    """The variant of the weights in a folder to read; None for those that are no variant."""
    found = {match[1]: file for file in sorted(folder.glob("*")) if (match := WEIGHTS.fullmatch(file.name))}
    if not found:
        raise UserError(f"'{folder}' has no weights: give safetensors, as `save_pretrained` writes them")
    variant = None if None in found else next(iter(found))
    if variant and len(found) > 1:
        raise UserError(f"'{folder}' has its weights only as {' and '.join(found)}: keep the files of one")
    for index in folder.glob("*.safetensors.index*.json"):
        _check_parts(folder, json.loads(index.read_text(encoding="utf-8"))["weight_map"], variant)
    for file in folder.glob("*.safetensors"):
        if (match := WEIGHTS.fullmatch(file.name)) and match[1] == variant:
            refuse_pointer(file)
    return variant


def _check_parts(folder: Path, places: dict[str, str], variant: str | None) -> None:
    """Raise UserError unless the files of a variant hold the weights that their index places there."""
    for name in sorted(set(places.values())):
        match = WEIGHTS.fullmatch(name)
        if match and match[1] == variant:
            if not (folder / name).is_file():
                raise UserError(f"'{folder}' lacks {name}, a file of its weights: fetch it again")
            refuse_pointer(folder / name)
            with safe_open(folder / name, "pt") as file:
                held = set(file.keys())
            check_keys(folder / name, [key for key, place in places.items() if place == name and key not in held])


def _fit_tokenizer(folder: Path, tokenizer: object, encoder: object) -> None:
    """Set a tokenizer's limit to the number of its encoder's positions; one without a limit has 10³⁰.

    Raises UserError if their vocabularies differ; a tokenizer whose files are missing has two tokens.
    """
    known = encoder.vocab_size
    if not known / 2 < (count := len(tokenizer)) <= known:  # T5 has a few more embeddings than tokens
        raise UserError(f"'{folder}' has {count} tokens and its encoder has {known}: give the tokenizer of the encoder")
    positions = getattr(encoder, "max_position_embeddings", tokenizer.model_max_length)
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions)


@contextmanager
def _silent() -> Iterator[None]:
    """Without progress bars, and without the libraries' reports about weights, which are errors here."""
    libraries = [logging]
    if find_spec("transformers"):  # the student does without transformers
        from transformers.utils import logging as transformers_logging

        libraries.append(transformers_logging)
    before = [(each, each.get_verbosity()) for each in libraries]
    for each, _ in before:
        each.disable_progress_bar()
        each.set_verbosity(each.CRITICAL)
    try:
        yield
    finally:
        for each, verbosity in before:
            each.set_verbosity(verbosity)


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
