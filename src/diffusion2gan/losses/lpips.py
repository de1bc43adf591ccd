"""LPIPS (Zhang et al. 2018), in pixels and in latents, and its ensembled form E-LatentLPIPS (Sec. 3.2).

A metric is frozen: no parameter has a gradient, and nothing in it differs between `train()` and `eval()`.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.networks.vgg import VGG, read, write


class LPIPS(nn.Module):
    """ℓ(F(x0), F(x1)): the weighted squared distance of unit-normalised features, a number a sample.

    `trunk` is F; `heads` are five vectors (channels,) of weights ≥ 0, one a tap, learnt from human
    judgements ("linear calibration"). The distance of a tap is a mean over places, and the five are
    added. Raises ValueError when a weight is negative: the distance would not be one.
    """

    def __init__(self, trunk: VGG, heads: Sequence[torch.Tensor]):
        super().__init__()
        if any((head < 0).any() for head in heads):
            raise ValueError("the heads of LPIPS must not be negative")
        self.trunk = trunk.folded()
        self.heads = nn.ParameterList(head.detach().clone() for head in heads)
        self.requires_grad_(False)

    @property
    def space(self) -> str:
        """`latent` or `pixel`: what the metric compares."""
        return self.trunk.space

    def forward(self, x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
        """Distances (N,) ≥ 0 of x0 from x1, both (N, C, h, w): scaled latents, or pictures in [-1, 1].

        The gradient flows to x0 alone; x1 is the target.
        """
        features = self.trunk.features(x0)
        with torch.no_grad():
            targets = self.trunk.features(x1)
        return distance(features, targets, self.heads)

    def save(self, path: Path) -> None:
        """Write trunk, heads and what it takes to build them again as one safetensors file."""
        write(path, self.state_dict(), self.trunk.settings)

    @classmethod
    def load(cls, path: Path) -> "LPIPS":
        """The metric that was saved at `path`. Raises UserError when there is none."""
        weights, settings = read(path, "a calibrated metric (make it with calibrate_lpips.py)")
        heads = [weights.pop(name) for name in sorted(weights) if name.startswith("heads.")]
        trunk = VGG(**settings)
        trunk.load_state_dict({name.removeprefix("trunk."): tensor for name, tensor in weights.items()})
        return cls(trunk, heads)


class PixelLPIPS(nn.Module):
    """LPIPS of what two latents decode to (Eq. 2); `decode` maps scaled latents to pictures in [-1, 1]."""

    def __init__(self, metric: LPIPS, decode: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.metric, self.decode = metric, decode

    def forward(self, x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
        """Distances (N,) of scaled latents x0 from their targets x1; the gradient flows to x0 alone."""
        with torch.no_grad():
            target = self.decode(x1)
        return self.metric(self.decode(x0), target)


class ELatentLPIPS(nn.Module):
    """LatentLPIPS under a random transform T, one a sample and call, the same for both (Eq. 3).

    The expectation over T is left to the steps of the training.
    """

    def __init__(self, metric: LPIPS, ensemble: Ensemble):
        super().__init__()
        self.metric, self.ensemble = metric, ensemble

    def forward(self, x0: torch.Tensor, x1: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Distances (N,) of scaled latents x0 from their targets x1; T is drawn from `generator` on the CPU."""
        return self.metric(*self.ensemble(x0, x1, generator))


def distance(
    features: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], heads: Iterable[torch.Tensor], dropout: float = 0
) -> torch.Tensor:
    """ℓ of taps (N, C, h, w): squared differences, weighted by the heads (C,), averaged over places, added; (N,).

    The channels of a feature are scaled to unit length at each place. `dropout` is the share of squared
    differences that are dropped at random before the heads, in calibration.
    """
    taps = zip(features, targets, heads, strict=True)
    squared = ((F.dropout((_unit(f0) - _unit(f1)).square(), dropout), head) for f0, f1, head in taps)
    return torch.stack([differences.mean((2, 3)) @ head for differences, head in squared]).sum(0)


def _unit(features: torch.Tensor) -> torch.Tensor:
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    # inside the root, so that the gradient is finite where every feature is zero
    return features * (features.square().sum(1, keepdim=True) + 1e-8).rsqrt()
