"""Zero-shot accuracy: how often CLIP finds the class that an image should show."""

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F

from diffusion2gan.metrics.clip_score import CLIP


class ZeroShot:
    """CLIP's zero-shot classification of images by each of several labels.

    `classes` holds, for each label, the captions of each of its classes. A class is represented by the mean of its
    captions' unit vectors (prompt ensembling, Radford et al. 2021, Sec. 3.1.4).
    """

    def __init__(self, clip: CLIP, classes: dict[str, list[list[str]]]):
        captions = list(dict.fromkeys(c for label in classes.values() for each in label for c in each))
        rows = {caption: row for row, caption in enumerate(captions)}
        vectors = clip.captions(captions)
        self.vectors = {}
        for label, of_label in classes.items():
            numbered = [(rows[caption], number) for number, each in enumerate(of_label) for caption in each]
            chosen, numbers = zip(*numbered, strict=True)
            self.vectors[label] = class_vectors(vectors[list(chosen)], numbers)

    def classify(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """For each label, the index of the nearest class (N,) of unit vectors (N, D) of images."""
        return {label: (images @ vectors.T).argmax(dim=1) for label, vectors in self.vectors.items()}

    def top1(self, images: torch.Tensor, true: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Accuracy in [0, 1] by each label, as `{label}_top1`; `true` holds the N true classes of each label."""
        return {
            f"{label}_top1": (found == torch.tensor(list(true[label]))).double().mean().item()
            for label, found in self.classify(images).items()
        }


def class_vectors(captions: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Unit vectors (K, D) of classes: the normalised mean of the unit vectors (N, D) of each class's captions."""
    sums = torch.zeros(max(classes) + 1, captions.shape[1]).index_add_(0, torch.tensor(classes), captions)
    return F.normalize(sums)
