"""LPIPS (Zhang et al. 2018), in pixels and in latents, and its ensembled form E-LatentLPIPS (Sec. 3.2).

A metric is frozen: no parameter has a gradient, and nothing in it differs between `train()` and `eval()`.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.losses import published
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.networks.vgg import VGG, read, write

# (shift, factor) of a raw latent: 1.x and 2.x by Rombach et al. 2022, Podell et al. 2024, Esser et al. 2024, FLUX.1
VAES = {
    "sd15": (0.0, 0.18215), "sd21": (0.0, 0.18215), "sdxl": (0.0, 0.13025), "sd3": (0.0609, 1.5305),
    "flux": (0.1159, 0.3611),
}  # fmt: skip
SMALLEST = {"latent": 4, "pixel": 16}
LARGEST_DEVIATION = 2.5  # scaled latents have about 1, raw ones of SD 5.5, of SDXL 7.7, of FLUX 2.8      # ours


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

        The gradient flows to x0 alone; x1 is the target. Raises UserError for other channels than the
        trunk's, or for less than the 4 × 4 latents or 16 × 16 pictures that its pools can halve.
        """
        self._check(x0, x1)
        features = self.trunk.features(x0)
        with torch.no_grad():
            targets = self.trunk.features(x1)
        return distance(features, targets, self.heads)

    def _check(self, x0: torch.Tensor, x1: torch.Tensor) -> None:
        least = SMALLEST[self.space]
        if x0.shape != x1.shape:
            raise UserError(f"LPIPS compares like with like, not {tuple(x0.shape)} with {tuple(x1.shape)}")
        if x0.dim() != 4 or x0.shape[1] != self.trunk.channels:
            raise UserError(
                f"this metric takes {self.space}s (N, {self.trunk.channels}, h, w), not {tuple(x0.shape)}: "
                "take the metric of the VAE that made them"
            )
        if min(x0.shape[2:]) < least:
            raise UserError(f"{self.space}s of {tuple(x0.shape[2:])} are too small for the trunk: at least {least}")

    def save(self, path: Path) -> None:
        """Write trunk, heads and what it takes to build them again as one safetensors file."""
        write(path, self.state_dict(), self.trunk.settings)

    @classmethod
    def load(cls, path: Path) -> "LPIPS":
        """The metric at `path`: our own file, or published weights (`published.py`).

        Raises UserError when there is none, or one of another layout.
        """
        if Path(path).suffix in published.SUFFIXES:
            trunk, heads = published.read(Path(path))
            return cls(trunk, heads)
        weights, settings = read(path, "a calibrated metric (make it with calibrate_lpips.py)")
        heads = [weights.pop(name) for name in sorted(weights) if name.startswith("heads.")]
        trunk = VGG(**settings)
        trunk.load_state_dict({name.removeprefix("trunk."): tensor for name, tensor in weights.items()})
        return cls(trunk, heads)


class PixelLPIPS(nn.Module):
    """LPIPS of what two latents decode to (Eq. 2); `decode` maps scaled latents to pictures in [-1, 1].

    With a `side` the pictures are resized to it, bilinearly, as Consistency Models do before LPIPS (Song et al. 2023).
    """

    def __init__(self, metric: LPIPS, decode: Callable[[torch.Tensor], torch.Tensor], side: int = 0):
        super().__init__()
        self.metric, self.decode, self.side = metric, decode, side

    def forward(self, x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
        """Distances (N,) of scaled latents x0 from their targets x1; the gradient flows to x0 alone."""
        with torch.no_grad():
            target = self._picture(x1)
        return self.metric(self._picture(x0), target)

    def _picture(self, x: torch.Tensor) -> torch.Tensor:
        picture = self.decode(x)
        return F.interpolate(picture, (self.side, self.side), mode="bilinear") if self.side else picture


class ELatentLPIPS(nn.Module):
    """LatentLPIPS under a random transform T, one a sample and call, the same for both (Eq. 3).

    The expectation over T is left to the steps of the training. `vae`, one of `VAES`, says that
    latents come as that autoencoder makes them and are scaled here; without it they must be scaled.
    `add_l1` adds the mean absolute difference, as the authors' package does and the paper does not.
    """

    def __init__(self, metric: LPIPS, ensemble: Ensemble, vae: str | None = None, add_l1: bool = False):
        super().__init__()
        if vae not in (None, *VAES):
            raise UserError(f"no autoencoder '{vae}': use one of {', '.join(VAES)}, or scale the latents yourself")
        self.metric, self.ensemble, self.vae, self.add_l1 = metric, ensemble, vae, add_l1
        self.looked = False

    @classmethod
    def from_pretrained(
        cls, source: str | Path, ensemble: str = "bgco", vae: str | None = None, add_l1: bool = False
    ) -> "ELatentLPIPS":
        """The loss with a calibrated metric: a file of one, or the name of one the authors published (`VAES`).

        Raises UserError when there is no such metric.
        """
        path = published.fetch(source) if source in VAES else Path(source)
        return cls(LPIPS.load(path), Ensemble(ensemble), vae, add_l1)

    def forward(self, x0: torch.Tensor, x1: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Distances (N,) of latents x0 from their targets x1, (N, C, s, s); T is drawn from `generator` on the CPU."""
        if self.vae:
            x0, x1 = scaled(x0, self.vae), scaled(x1, self.vae)
        self._look_once(x1)
        distances = self.metric(*self.ensemble(x0, x1, generator))
        return distances + (x0 - x1).abs().mean((1, 2, 3)) if self.add_l1 else distances

    def _look_once(self, x1: torch.Tensor) -> None:
        if not self.looked and (deviation := x1.detach().float().std().item()) > LARGEST_DEVIATION:
            warnings.warn(
                f"latents with a standard deviation of {deviation:.1f} look unscaled: multiply them by the "
                "autoencoder's scaling factor, or give `vae`",
                stacklevel=3,
            )
        self.looked = True


def scaled(raw: torch.Tensor, vae: str) -> torch.Tensor:
    """Latents (N, C, h, w) of about unit deviation, of those that an autoencoder of `VAES` makes."""
    shift, factor = VAES[vae]
    return (raw - shift) * factor


def distance(
    features: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], heads: Iterable[torch.Tensor], dropout: float = 0
) -> torch.Tensor:
    """ℓ of taps (N, C, h, w): squared differences, weighted by the heads (C,), averaged over places, added; (N,).

    The channels of a feature are scaled to unit length at each place. `dropout` is the share of squared
    differences that are dropped at random before the heads, in calibration.
    """
    taps = zip(features, targets, heads, strict=True)
    squared = ((F.dropout((_unit(f0) - _unit(f1)).square(), dropout), head) for f0, f1, head in taps)
    return torch.stack([(differences.mean((2, 3)) * head).sum(1) for differences, head in squared]).sum(0)


def _unit(features: torch.Tensor) -> torch.Tensor:
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    # inside the root, so that the gradient is finite where every feature is zero
    return features * (features.square().sum(1, keepdim=True) + 1e-8).rsqrt()
