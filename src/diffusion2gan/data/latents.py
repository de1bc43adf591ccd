"""Labelled latents in shards on disk, the training data of the latent VGG; at the paper's scale larger than memory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from diffusion2gan.errors import UserError


class LabelledLatents:
    """The shards of encode_latents.py as one dataset: scaled latents fp16 (N, C, h, w) and `labels` (N,).

    Latents stay on disk and are read by batch. Label i is the class `names[i]`. Raises UserError for a file without
    labelled latents, for files whose classes or shapes differ, and if there are not `classes` classes.
    """

    def __init__(self, paths: Sequence[str | Path], classes: int):
        if not paths:
            raise UserError("there are no labelled latents: give the files of encode_latents.py")
        opened = [_open(path) for path in paths]
        self.shards, labels, names = zip(*opened, strict=True)
        self.labels, self.names = torch.cat(labels), names[0]
        for path, shard, own in zip(paths, self.shards, names, strict=True):
            if own != self.names or shard.get_shape()[1:] != self.shards[0].get_shape()[1:]:
                raise UserError(f"'{path}' has other classes or sizes than '{paths[0]}': encode them in the same way")
        if len(self.names) != classes:
            raise UserError(f"'{paths[0]}' has {len(self.names)} classes and --classes is {classes}: make them agree")
        self.ends = np.cumsum([len(shard_labels) for shard_labels in labels])
        self.shape = (len(self.labels), *self.shards[0].get_shape()[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        """The latents (n, C, h, w) of indices (n,)."""
        shards = np.searchsorted(self.ends, indices, side="right")
        rows = indices.numpy() - np.concatenate([[0], self.ends])[shards]
        return torch.cat([self.shards[s][int(r) : int(r) + 1] for s, r in zip(shards, rows, strict=True)])


def _open(path: str | Path) -> tuple[Any, torch.Tensor, list[str]]:
    """The latents of a shard, still on disk, its labels (N,), and the classes that they number."""
    try:
        file = safe_open(path, "pt")
        latents, labels = file.get_slice("latents"), file.get_tensor("labels")
        classes = json.loads((file.metadata() or {})["classes"])
        if latents.get_shape()[:1] != list(labels.shape) or not 0 <= labels.min() <= labels.max() < len(classes):
            raise ValueError(f"labels ({len(labels)},) of {len(classes)} classes for latents {latents.get_shape()}")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"'{path}' holds no labelled latents ({error}): make it with encode_latents.py") from error
    return latents, labels, classes
