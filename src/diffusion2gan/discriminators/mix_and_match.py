"""Mix-and-match augmentation: D also learns to reject target latents with the wrong text or noise (Sec. 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from diffusion2gan.errors import UserError


@dataclass(frozen=True)
class Fractions:
    """Fractions of D's fake batch that mismatched triples of each kind replace; the rest is generated."""

    latent: float
    text: float
    noise: float

    def __post_init__(self):
        if min(self.latent, self.text, self.noise) < 0 or self.latent + self.text + self.noise > 1:
            raise UserError(
                f"mix-and-match was given the fractions latent {self.latent}, text {self.text}, noise {self.noise}: "
                "choose fractions that are not negative and sum to at most 1"
            )


@dataclass(frozen=True)
class Mix:
    """The triple in each row of the fake batch, as row indices (N,) into the batch's latents, noise and text.

    The latent is the teacher's x where `target` (N,) is true, and generated elsewhere.
    """

    target: torch.Tensor
    latent: torch.Tensor
    noise: torch.Tensor
    text: torch.Tensor


def mix_and_match(captions: Sequence[str], fractions: Fractions) -> Mix:
    """Sample which rows of the fake batch become mismatched, with torch's default generator on the CPU.

    Rows are sampled independently; the fractions are the probabilities. A mismatched row has either an unrelated target
    latent with its own noise and text, or its own target latent with the text or the noise of another row: the
    teacher's latent with one thing wrong. Unrelated latents and texts belong to another caption; if the
    batch has no other caption, the row stays generated.
    """
    count = len(captions)
    own = torch.arange(count)
    unrelated, another = other_caption(captions), _partner(~torch.eye(count, dtype=torch.bool))
    draw = torch.rand(count)
    by_latent = (draw < fractions.latent) & (unrelated != own)
    draw = draw - fractions.latent
    by_text = (draw >= 0) & (draw < fractions.text) & (unrelated != own)
    draw = draw - fractions.text
    by_noise = (draw >= 0) & (draw < fractions.noise) & (another != own)
    return Mix(
        target=by_latent | by_text | by_noise,
        latent=torch.where(by_latent, unrelated, own),
        noise=torch.where(by_noise, another, own),
        text=torch.where(by_text, unrelated, own),
    )


def other_caption(captions: Sequence[str]) -> torch.Tensor:
    """Indices (N,): a random row with another caption for each row, or the row itself if there is none."""
    number = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    numbers = torch.tensor([number[caption] for caption in captions])
    return _partner(numbers[:, None] != numbers[None, :])


def _partner(allowed: torch.Tensor) -> torch.Tensor:
    """Indices (N,): a random allowed column for each row of `allowed` (N, N), or the diagonal if there is none."""
    score = torch.rand(allowed.shape).masked_fill(~allowed, -1.0).fill_diagonal_(-0.5)
    return score.argmax(dim=1)
