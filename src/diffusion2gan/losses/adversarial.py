"""The GAN loss of Sec. 3.3: logistic, non-saturating for the generator (Goodfellow et al. 2014)."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def generator_loss(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """-E log D(c, z, G(z, c)) (Eq. 6): a scalar from D's logit maps (N, ...) of generated latents."""
    return _mean_softplus([-head for head in logits])


def discriminator_loss(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """-E log D(c, z, x) - E log(1 - D(c, z, G(z, c))), the negative of what D maximises in Eq. 5: a scalar."""
    return _mean_softplus([-head for head in real]) + rejection_loss(fake)


def rejection_loss(fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """-E log(1 - D), the half of `discriminator_loss` for samples that D must call fake: a scalar."""
    return _mean_softplus(fake)


def accuracy(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The shares of real latents with positive logits and of fake ones with negative logits, in [0, 1].

    Means over samples and positions of each head, then over heads, as in the loss.
    """
    judged = {"real_accuracy": [head > 0 for head in real], "fake_accuracy": [head < 0 for head in fake]}
    return {name: torch.stack([right.float().mean() for right in heads]).mean() for name, heads in judged.items()}


def _mean_softplus(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over samples and positions of each head, then over heads, so that each head counts the same."""
    return torch.stack([F.softplus(head.float()).mean() for head in logits]).mean()
