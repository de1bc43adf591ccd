"""EDM's checkpoints: pickles of whole objects, with the names and fields that the official code writes down."""

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from diffusion2gan.pixel.edm import EDM, Pyramid

AUGMENT_DIM = 9  # numbers that describe EDM's augmentation
FILTERS = {"ddpmpp": [1.0, 1.0], "ncsnpp": [1.0, 3.0, 3.0, 1.0]}
CLASSES = {"EDM": "EDMPrecond", "Block": "UNetBlock", "Pyramid": "Conv2d"}  # ours: theirs, where the names differ
MODULES = {
    "torch_utils.persistence": "_reconstruct_persistent_obj", "dnnlib.util": "EasyDict",
    "numpy.core.multiarray": "scalar",
}  # fmt: skip


class Persistent(nn.Module):
    """Pickled as EDM's objects are: a call with the fields, the class's name and its source code."""

    def __init__(self, class_name: str = "Linear", **fields):
        super().__init__()
        self.__dict__.update(_init_args=(), _init_kwargs=fields, **fields)
        self.official = class_name

    def __reduce__(self):
        state = {name: value for name, value in self.__dict__.items() if name != "official"}
        meta = {"type": "class", "version": 6, "module_src": "1 / 0", "class_name": self.official, "state": state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


class Scalar:
    """A number of NumPy, pickled as by NumPy 1: the official code computes some fields with `np.sqrt`."""

    def __init__(self, value: float):
        self.value = np.float64(value)

    def __reduce__(self):
        return sys.modules["numpy.core.multiarray"].scalar, (np.dtype("float64"), self.value.tobytes())


def laid_out(ours: EDM) -> Persistent:
    """A network of ours as one of theirs, with the layer of the augmentation and, always, a noise embedding."""
    taps = torch.tensor(FILTERS[ours.config.architecture])
    theirs = _laid_out(ours, torch.outer(taps, taps)[None, None] / taps.sum().square())
    theirs.__dict__.update(img_resolution=ours.config.sample_size, img_channels=3, label_dim=0, use_fp16=False)
    theirs.__dict__.update(sigma_min=0, sigma_max=float("inf"), sigma_data=0.5)
    augmented = Persistent("Linear", in_features=AUGMENT_DIM)
    augmented.weight = nn.Parameter(torch.randn(ours.model.map_layer0.in_features, AUGMENT_DIM))
    augmented.bias = None
    theirs.model.map_augment, theirs.model.map_label, theirs.model.label_dropout = augmented, None, 0
    if ours.model.map_noise is None:
        theirs.model.map_noise = Persistent("PositionalEmbedding", endpoint=True, max_positions=10000)
    return theirs


def _laid_out(module: nn.Module, resample_filter: torch.Tensor) -> nn.Module:
    """A module of ours as one of theirs: the filters are buffers, and a block knows how it scales its sum."""
    children = {name: _laid_out(child, resample_filter) for name, child in module.named_children()}
    if isinstance(module, nn.ModuleDict):
        return nn.ModuleDict(children)
    ours = type(module).__name__
    theirs = Persistent(CLASSES.get(ours, ours))
    if ours == "Block":
        attention = {"init_mode": "xavier_uniform", "init_weight": Scalar(0.2**0.5)}
        fields = {"skip_scale": Scalar(0.5**0.5), "dropout": 0.13, "num_heads": 1, "adaptive_scale": False}
        theirs.__dict__.update(fields, _init_kwargs={"init_attn": attention, "resample_filter": [1, 1]})
    for name, weight in module.named_parameters(recurse=False):
        theirs.register_parameter(name, weight)
    for name, values in module.named_buffers(recurse=False):
        theirs.register_buffer(name, values)
    if isinstance(module, nn.Conv2d):
        theirs.register_buffer("resample_filter", resample_filter if isinstance(module, Pyramid) else None)
    for layer in [children[name] for name in ("conv0", "skip") if getattr(module, "resample", None)]:
        layer.resample_filter = resample_filter
    for name, child in children.items():
        theirs.add_module(name, child)
    return theirs


def write(path: Path, network: object, **more) -> Path:
    """A snapshot with a network of theirs as `ema`, beside the loss, the augmentation and the dataset's options."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _official_modules() as made, open(path, "wb") as file:
        snapshot = {
            "ema": network,
            "loss_fn": Persistent("EDMLoss", P_mean=-1.2, P_std=1.2, sigma_data=0.5),
            "augment_pipe": Persistent("AugmentPipe", p=0.12, xflip=1e8, yflip=1.0),
            "dataset_kwargs": made["EasyDict"](class_name="training.dataset.ImageFolderDataset", use_labels=False),
        }
        pickle.dump(snapshot | more, file)
    return path


@contextmanager
def _official_modules() -> Iterator[dict[str, Callable]]:
    """What the official code and NumPy 1 define, where pickle looks for the names that it writes down."""
    modules, members = {}, {}
    for name, member in MODULES.items():
        modules[name] = ModuleType(name)
        made = type(member, (dict,), {}) if member == "EasyDict" else lambda *arguments: None
        made.__module__, made.__qualname__, made.__name__ = name, member, member
        setattr(modules[name], member, made)
        members[member] = made
    parents = {name.split(".")[0]: ModuleType(name.split(".")[0]) for name in MODULES if not name.startswith("numpy")}
    with patch.dict(sys.modules, modules | parents):
        yield members
