"""Loading a diffusers pipeline from a folder or the hub."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging

from diffusion2gan.errors import UserError

# options for loading each kind of pipeline
KINDS = {
    "StableDiffusionPipeline": {"safety_checker": None, "requires_safety_checker": False},
    "StableDiffusionXLPipeline": {"add_watermarker": False},
}
# packages that read a kind of tokenizer; transformers' own message asks for another one
NEEDED = {"T5Tokenizer": ("sentencepiece", "protobuf")}


def load_pipeline(
    path: str, dtype: torch.dtype, kinds: dict[str, dict], kind: str | None = None, **parts: object
) -> DiffusionPipeline:
    """Load a pipeline of one of the `kinds` (class → options) from a folder or the hub; `kind` overrides its class.

    `parts` replace those of the pipeline, such as `unet`, which are then not read.
    Raises UserError if it is missing, of another kind, or not accessible on the hub.
    """
    from transformers.utils import logging as transformers_logging  # here: the student does without transformers

    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        config = DiffusionPipeline.load_config(path)
        found = kind or config.get("_class_name")
        if found not in kinds:
            raise UserError(f"'{path}' is a {found}, it must be a {' or a '.join(kinds)}: choose another")
        _, tokenizer = config.get("tokenizer") or (None, None)
        if lacking := [package for package in NEEDED.get(tokenizer, ()) if not _installed(package)]:
            raise UserError(f"the tokenizer of '{path}' needs {' and '.join(lacking)}: pip install {' '.join(lacking)}")
        return getattr(diffusers, found).from_pretrained(path, dtype=dtype, **kinds[found], **parts)
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        if Path(path).exists():
            raise UserError(f"'{path}' is not the folder of a diffusers pipeline: {reason}") from error
        if "gated" in str(error).lower():
            raise UserError(
                f"'{path}' is gated: accept its terms at https://huggingface.co/{path} and log in with `hf auth login`"
            ) from error
        raise UserError(
            f"'{path}' is neither a folder nor a pipeline that could be found on the hub: without a "
            f"network, fetch it beforehand with `hf download {path}` ({reason})"
        ) from error


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
