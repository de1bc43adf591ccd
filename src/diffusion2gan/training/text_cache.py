"""Text embeddings for a training, cached if there are few captions."""

from collections.abc import Sequence

import torch

from diffusion2gan.teacher import Teacher


class TextEmbeddings:
    """The frozen text encoder, which caches the embeddings of all captions if there are few.

    The cache is filled before training. The last bits of an embedding depend on the batch in which it is encoded;
    a cache filled during training would therefore depend on where the training was resumed.
    """

    most_in_table = 4096  # 1 GB of Stable Diffusion's embeddings

    def __init__(self, teacher: Teacher, captions: Sequence[str]):
        self.teacher, self.rows = teacher, {}
        if len(captions) <= self.most_in_table:
            distinct = list(dict.fromkeys(map(str, captions)))
            parts = [teacher.encode_text(distinct[i : i + 64]) for i in range(0, len(distinct), 64)]
            self.table = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            self.rows = {caption: row for row, caption in enumerate(distinct)}

    def __call__(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        """The conditions of N captions (`Teacher.encode_text`)."""
        if not self.rows:
            return self.teacher.encode_text(captions)
        rows = [self.rows[caption] for caption in captions]
        return {name: each[rows] for name, each in self.table.items()}
