"""Official EDM checkpoints, which are pickles of whole objects, read without executing any code.

A pickle names the classes of its networks and contains their source code. Neither is used: objects are read as plain
data, and the `EDM` is built from the names and shapes of the tensors.
"""

import io
import re
from pathlib import Path

import numpy as np
import torch

from diffusion2gan.data.sources import EDM_CIFAR10
from diffusion2gan.errors import UserError
from diffusion2gan.io import load_pickle
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.weights import fill, refuse_pointer

SOURCE = EDM_CIFAR10["url"]
FREQUENCIES = "model.map_noise.freqs"  # a weight that only NCSN++ has


class Record(dict):
    """An object of a pickle, reduced to its fields."""

    def __init__(self, *arguments):
        super().__init__()

    def __setstate__(self, state: dict):
        self.update(state)


def load_edm_pickle(path: Path) -> EDM:
    """Load the averaged network (`ema`) of a pickle, in float32.

    Raises UserError if there is none, if the pickle names any function or class that is not allowed, or if the network
    is neither an unconditional DDPM++ nor an unconditional NCSN++.
    """
    if not path.is_file():
        raise UserError(f"there is no '{path}': fetch {SOURCE} (about 226 MB)")
    refuse_pointer(path)
    with open(path, "rb") as file:
        content = load_pickle(file, str(path), ALLOWED)
    if not isinstance(content, dict) or not isinstance(content.get("ema"), Record):
        raise UserError(f"'{path}' holds no network named ema: use an EDM checkpoint such as {SOURCE}")
    try:
        weights = state_dict(content["ema"])
    except (AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"'{path}' holds a network whose weights are no tensors ({error}): use {SOURCE}") from error
    # only EDM's training has augmentation as an input, and DDP refuses a parameter that forward never uses
    weights.pop("model.map_augment.weight", None)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0] if FREQUENCIES in weights else [1.0, 1.0])
    resample_filter = torch.outer(taps, taps) / taps.sum() ** 2
    for name in [name for name in weights if name.endswith("resample_filter")]:
        if not torch.equal(weights.pop(name), resample_filter[None, None]):
            raise UserError(f"'{path}' resamples with another filter than DDPM++ and NCSN++: use {SOURCE}")
    if "model.map_label.weight" in weights:
        raise UserError(f"'{path}' holds a class-conditional network: use the unconditional one, {SOURCE}")
    try:
        network = EDM(**settings(weights))
    except (KeyError, StopIteration, IndexError, RuntimeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"'{path}' is neither a DDPM++ nor an NCSN++ network ({reason}): use {SOURCE}") from error
    fill(network, weights, path)
    return network


def state_dict(module: Record, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a module and its submodules, with the names of `torch.nn.Module.state_dict`."""
    found = {**module.get("_parameters", {}), **module.get("_buffers", {})}
    tensors = {prefix + name: tensor.detach().float() for name, tensor in found.items() if tensor is not None}
    for name, within in module.get("_modules", {}).items():
        if within is not None:
            tensors |= state_dict(within, f"{prefix}{name}.")
    return tensors


def settings(weights: dict[str, torch.Tensor]) -> dict:
    """The arguments of `EDM`, read from the shapes of its weights."""
    shapes = {name.removeprefix("model."): tuple(tensor.shape) for name, tensor in weights.items()}
    first = next(name for name in shapes if re.fullmatch(r"enc\.(\d+)x\1_conv\.weight", name))
    model_channels, in_channels = shapes[first][:2]
    ends = {
        name: shape for name, shape in shapes.items() if re.fullmatch(r"enc\.\d+x\d+_block\d+\.conv1\.weight", name)
    }
    widths = {_side(name): shape[0] for name, shape in ends.items()}
    return {
        "sample_size": _side(first),
        "in_channels": in_channels,
        "model_channels": model_channels,
        "channel_mult": tuple(width // model_channels for _, width in sorted(widths.items(), reverse=True)),
        "num_blocks": len(ends) // len(widths),
        "attn_resolutions": tuple({_side(name) for name in shapes if re.fullmatch(r"enc\..*qkv\.weight", name)}),
        "architecture": "ncsnpp" if FREQUENCIES in weights else "ddpmpp",
    }


def _side(name: str) -> int:
    return int(re.search(r"(\d+)x\d+_", name)[1])


def _object(meta: dict) -> Record:
    """Replaces the function that makes EDM's objects; ignores their source code."""
    made = Record()
    made.update(meta["state"])
    return made


def _storage(content: bytes) -> torch.UntypedStorage:
    """The storage of a tensor, itself a pickle, loaded with torch's own restrictions."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


ALLOWED = {
    "torch_utils.persistence._reconstruct_persistent_obj": _object,
    "torch.nn.modules.container.ModuleDict": Record,
    "dnnlib.util.EasyDict": Record,
    "collections.OrderedDict": dict,
    "builtins.set": set,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray.scalar": np._core.multiarray.scalar,  # some fields are numbers of NumPy
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": lambda tensor, requires_grad, hooks: tensor,
    "torch.storage._load_from_bytes": _storage,
}
