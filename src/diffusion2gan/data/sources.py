"""Where data comes from: public files to download, and sources that make their data themselves.

Settings name a source either by the path of its files or by its name in `SOURCES`. A new source is registered there
and nowhere else. This module does not import torch, because every job of the workflow reads it.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol

import numpy as np

# Public files of Table 6.
CIFAR10 = {
    "url": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "md5": "c58f30108f718f92721af3b95e74349a",
}
EDM_CIFAR10 = {"url": "https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/edm-cifar10-32x32-uncond-ve.pkl"}

# Public data that a job can download: the path at which a scale expects it, and the source.
FETCHED = {
    "data/cifar-10-python.tar.gz": CIFAR10,
    "data/edm-cifar10-32x32-uncond-ve.pkl": EDM_CIFAR10,
}

# Sources without files: name in the settings → module and class, imported when the source is used.
SOURCES = {
    "openmoji": "diffusion2gan.toy.source:OpenMoji",
    "openmoji-sweep": "diffusion2gan.toy.source:OpenMojiSweep",
}


class LabelledExamples(Protocol):
    """Endless labelled images: example i is an image uint8 (size, size, 3) and the index of its class."""

    classes: Sequence[str]

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]: ...


class Source(Protocol):
    """A source that makes its data itself, the same for the same seed on every machine."""

    attribution: str  # printed wherever its images are shown
    synthetic_judgements: bool  # no person gave the judgements

    def captions(self) -> set[str]:
        """All captions that its images can have."""

    def prompts(self) -> list[str]:
        """Distinct captions for the pairs; none of them is in the benchmark."""

    def benchmark(self, count: int, size: int, seed: int) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """`count` images uint8 (size, size, 3), each with its `caption` and the index of its class by each label."""

    def classes(self) -> dict[str, list[list[str]]]:
        """For each label of the benchmark, the captions of each of its classes."""

    def labelled_images(self, size: int, seed: int) -> LabelledExamples:
        """Labelled images for a classifier."""

    def judgements(self, split: str, size: int, seed: int) -> Sequence:
        """2AFC judgements (`data.bapps.Judgement`) of `train` or `val`."""

    def unconditional_images(self, count: int, size: int, seed: int) -> np.ndarray:
        """Images uint8 (count, size, size, 3) for a model without captions."""


def find_source(name: str | None) -> Source | None:
    """The registered source with this name; None for anything else, such as a path."""
    if name not in SOURCES:
        return None
    module, kind = SOURCES[name].split(":")
    return getattr(import_module(module), kind)()


def source_names() -> str:
    """The registered names, quoted, for messages."""
    return " or ".join(f"'{name}'" for name in SOURCES)


def attribution(captions: Iterable[str] | None = None) -> str:
    """The attribution of every source that could have made images with these captions; of all sources by default."""
    sources = [find_source(name) for name in SOURCES]
    if captions is not None:
        wanted = set(captions)
        sources = [source for source in sources if source.captions() & wanted]
    return " ".join(dict.fromkeys(source.attribution for source in sources))
