"""Labelled latents in shards on disk, the training data of the latent VGG; at the paper's scale larger than memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from diffusion2gan.errors import UserError


class LabelledLatents:
    """The shards of encode_latents.py as one dataset: scaled latents fp16 (N, C, h, w) and `labels` (N,).

    Latents stay on disk and are read by batch. Raises UserError for a file without labelled latents, and if a label
    is not below `classes`.
    """

    def __init__(self, paths: Sequence[str | Path], classes: int):
        self.shards, labels = [], []
        for path in paths:
            try:
                file = safe_open(path, "pt")
                self.shards.append(file.get_slice("latents"))
                labels.append(file.get_tensor("labels"))
            except (OSError, SafetensorError) as error:
                raise UserError(
                    f"'{path}' holds no labelled latents ({error}): make it with encode_latents.py"
                ) from error
        self.labels = torch.cat(labels) if labels else torch.empty(0)
        if len(self.labels) == 0 or self.labels.max() >= classes:
            found = self.labels.unique().numel()
            raise UserError(f"{paths} have {found} classes and --classes is {classes}: make them agree")
        self.ends = np.cumsum([len(shard_labels) for shard_labels in labels])
        self.shape = (len(self.labels), *self.shards[0].get_shape()[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        """The latents (n, C, h, w) of indices (n,)."""
        shards = np.searchsorted(self.ends, indices, side="right")
        rows = indices.numpy() - np.concatenate([[0], self.ends])[shards]
        return torch.cat([self.shards[s][int(r) : int(r) + 1] for s, r in zip(shards, rows, strict=True)])
