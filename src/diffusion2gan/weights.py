"""Weights from files: all of a network, of its shapes and finite, or an error that names the file and the key."""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from diffusion2gan.errors import UserError

POINTER = b"version https://git-lfs"  # how the text begins that stands for a file of git-lfs


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a file by name, and its metadata: safetensors, or a pickle of a dictionary of tensors alone.

    Raises UserError for any other file.
    """
    try:
        refuse_pointer(path)
        if Path(path).suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"'{path}' holds no tensors: {reason(error)}") from error
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way; torch's own advice is to execute it
        raise UserError(f"'{path}' holds no tensors: {type(error).__name__}") from error
    if not isinstance(weights, Mapping) or not all(map(torch.is_tensor, weights.values())):
        raise UserError(f"'{path}' is not a dictionary of tensors: give the weights of the network alone")
    return dict(weights), {}


def refuse_pointer(path: Path) -> None:
    """Raise UserError if a file is the pointer that git leaves where git-lfs is not installed."""
    with open(path, "rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise UserError(f"'{path}' is a pointer of git-lfs, not the file: fetch it with `git lfs pull`")


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Load weights into a network, every one and no other. Raises UserError that names the `source` and a key."""
    own = network.state_dict()
    both = own.keys() & weights.keys()
    misshapen = [name for name in both if own[name].shape != weights[name].shape]
    check_keys(source, own.keys() - weights.keys(), weights.keys() - own.keys(), misshapen)
    for name in sorted(both):  # quantized weights would be read as if they were not
        if own[name].is_floating_point() != weights[name].is_floating_point():
            raise UserError(f"'{source}' has {name} as {weights[name].dtype}: use weights of 16 or 32 bits")
    network.load_state_dict(weights)
    check_weights(network, source)


def check_keys(
    source: str | Path, missing: Iterable[str], unexpected: Iterable[str] = (), misshapen: Iterable[str] = ()
) -> None:
    """Raise UserError if weights are missing in a file or folder, belong to no layer, or have another shape."""
    mistakes = {"lacks": missing, "has the unknown weight": unexpected, "has another shape of": misshapen}
    for what, names in mistakes.items():
        if first := sorted(names)[:1]:
            more = f" and {len(list(names)) - 1} more" if len(list(names)) > 1 else ""
            raise UserError(f"'{source}' {what} {first[0]}{more}: use the complete weights of this network")


def check_weights(network: nn.Module, source: str | Path) -> None:
    """Raise UserError if a weight of a network is NaN or infinite."""
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(f"'{source}' has a value in {name} that is not finite: use other weights")


def reason(error: BaseException) -> str:
    """The first line of an error's message, with the next one after a colon; its class if it has no message."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(" ".join([first, *others[:1]] if first.endswith(":") else [first]), 300)
