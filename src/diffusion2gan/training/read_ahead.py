"""Pairs read ahead in a thread, so that a training waits neither for the disk nor for the noise to be sampled."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch

from diffusion2gan.pairs.dataset import PairDataset, Pairs


class ReadAhead:
    """Batches of pairs, read in a thread before they are needed. The batches are the same without it.

    With `pin` the tensors are page-locked, so that copies to a GPU do not block.
    """

    def __init__(self, pairs: PairDataset, pin: bool = False):
        self.pairs, self.pin = pairs, pin
        self.thread = ThreadPoolExecutor(1, "read-ahead")
        self.coming: dict[tuple[int, ...], Future[Pairs]] = {}

    def prepare(self, batches: Iterable[torch.Tensor]) -> None:
        """Begin to read batches, each given by its indices (N,), in this order."""
        for indices in batches:
            if (key := tuple(indices.tolist())) not in self.coming:
                self.coming[key] = self.thread.submit(self.read, indices)

    def batch(self, indices: torch.Tensor) -> Pairs:
        """The pairs at `indices` (N,). An error of the thread that read them is raised here."""
        coming = self.coming.pop(tuple(indices.tolist()), None)
        return coming.result() if coming else self.read(indices)

    def read(self, indices: torch.Tensor) -> Pairs:
        """The pairs at `indices` (N,), read now."""
        pairs = self.pairs.batch(indices)
        return replace(pairs, z=pairs.z.pin_memory(), x=pairs.x.pin_memory()) if self.pin else pairs
