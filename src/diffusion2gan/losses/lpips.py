"""LPIPS (Zhang et al. 2018), in pixels and in latents, and its ensembled form E-LatentLPIPS (Sec. 3.2).

A metric is frozen: no parameter needs a gradient, and `train()` and `eval()` change nothing in it.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from diffusion2gan.choices import PRESET, RESAMPLING
from diffusion2gan.errors import UserError
from diffusion2gan.losses import published
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.networks.vgg import VGG, read, write
from diffusion2gan.weights import fill

# (shift, factor) of a raw latent: 1.x and 2.x by Rombach et al. 2022, Podell et al. 2024, Esser et al. 2024, FLUX.1
VAES = {
    "sd15": (0.0, 0.18215), "sd21": (0.0, 0.18215), "sdxl": (0.0, 0.13025), "sd3": (0.0609, 1.5305),
    "flux": (0.1159, 0.3611),
}  # fmt: skip
SMALLEST = {"latent": 4, "pixel": 16}
LARGEST_DEVIATION = 2.5  # about 1 if scaled; raw 5.5 (SD), 7.7 (SDXL), 2.8 (FLUX)                  # ours


class LPIPS(nn.Module):
    """ℓ(F(x0), F(x1)): the weighted squared distance of unit-normalised features, one number for each sample.

    `trunk` is F; `heads` are five vectors (channels,) of weights ≥ 0, one for each tap, learnt from human
    judgements ("linear calibration"). The distance at a tap is a mean over positions; the five are
    added. Raises ValueError if a weight is negative, because the result would not be a distance.
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
        """Distances (N,) ≥ 0 of x0 from x1, both (N, C, h, w): scaled latents, or images in [-1, 1].

        Only x0 gets a gradient; x1 is the target. Raises UserError if the shapes differ, if the trunk takes another
        number of channels, or if the inputs are too small for its pooling layers (latents below 4 × 4, images below
        16 × 16).
        """
        self._check(x0, x1)
        features = self.trunk.features(x0)
        with torch.no_grad():
            targets = self.trunk.features(x1)
        return distance(features, targets, self.heads)

    def _check(self, x0: torch.Tensor, x1: torch.Tensor) -> None:
        least = SMALLEST[self.space]
        if x0.shape != x1.shape:
            raise UserError(f"LPIPS compares inputs of the same shape, not {tuple(x0.shape)} with {tuple(x1.shape)}")
        if x0.dim() != 4 or x0.shape[1] != self.trunk.channels:
            raise UserError(
                f"this metric takes {self.space}s (N, {self.trunk.channels}, h, w), not {tuple(x0.shape)}: "
                "use the metric of the VAE that made them"
            )
        if min(x0.shape[2:]) < least:
            raise UserError(f"{self.space}s of {tuple(x0.shape[2:])} are too small for the trunk: at least {least}")

    def save(self, path: Path) -> None:
        """Write trunk, heads and their settings as one safetensors file."""
        write(path, self.state_dict(), self.trunk.settings)

    @classmethod
    def load(cls, path: Path) -> "LPIPS":
        """Load the metric from a file: ours, or published weights (`published.py`).

        Raises UserError if there is no such file, if it has another layout, or if the metric was never calibrated.
        """
        if Path(path).suffix in published.SUFFIXES:
            trunk, heads = published.read(Path(path))
            return cls(trunk, heads)
        weights, settings = read(path, "a calibrated metric (make it with calibrate_lpips.py)")
        if not any(name.startswith("heads.") for name in weights):
            raise UserError(
                f"'{path}' holds a VGG without the weights of its features: calibrate it (calibrate_lpips.py)"
            )
        trunk = VGG(**settings)
        metric = cls(trunk, [torch.zeros(width) for width in trunk.widths])
        fill(metric, weights, path)
        return cls(metric.trunk, list(metric.heads))


class PixelLPIPS(nn.Module):
    """LPIPS of two decoded latents (Eq. 2); `decode` maps scaled latents to images in [-1, 1].

    If `side` is given, the images are first resized to it, bilinearly, as for Consistency Models (Song et al. 2023).
    """

    def __init__(self, metric: LPIPS, decode: Callable[[torch.Tensor], torch.Tensor], side: int = 0):
        super().__init__()
        self.metric, self.decode, self.side = metric, decode, side

    def forward(self, x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
        """Distances (N,) of scaled latents x0 from their targets x1; only x0 gets a gradient."""
        with torch.no_grad():
            target = self._picture(x1)
        return self.metric(self._picture(x0), target)

    def _picture(self, x: torch.Tensor) -> torch.Tensor:
        picture = self.decode(x)
        return F.interpolate(picture, (self.side, self.side), mode="bilinear") if self.side else picture


class ELatentLPIPS(nn.Module):
    """d(x0, x1) = E_T[ℓ(F(T x0), F(T x1))], LatentLPIPS under random transforms T (Eq. 3).

    Each call averages over `draws` random T for each sample, and every training step samples new ones. With
    `vae`, one of `VAES`, the latents are raw outputs of that autoencoder and are scaled here; without it
    they must be scaled already. `add_l1` adds the mean absolute difference, as the authors' package does
    and the paper does not. Raises UserError if there is no such autoencoder, or if `draws` is below 1.
    """

    def __init__(
        self, metric: LPIPS, ensemble: Ensemble, vae: str | None = None, add_l1: bool = False, draws: int = 1
    ):  # fmt: skip
        super().__init__()
        if vae not in (None, *VAES):
            raise UserError(f"no autoencoder '{vae}': use one of {', '.join(VAES)}, or scale the latents yourself")
        if not isinstance(draws, int) or draws < 1:
            raise UserError(f"draws={draws}: average over 1, 2, 3, … transforms")
        self.metric, self.ensemble, self.vae, self.add_l1, self.draws = metric, ensemble, vae, add_l1, draws
        self.looked = False

    @classmethod
    def from_pretrained(
        cls, source: str | Path, ensemble: str = PRESET, vae: str | None = None, add_l1: bool = False,
        resampling: str = RESAMPLING, draws: int = 1,
    ) -> "ELatentLPIPS":  # fmt: skip
        """The loss with a calibrated metric: a file, or the name of one that the authors published (`VAES`).

        Raises UserError if there is no such metric.
        """
        path = published.fetch(source) if source in VAES else Path(source)
        if not path.suffix and not path.exists():
            raise UserError(f"no metric '{source}': use one of {', '.join(VAES)}, or a file")
        return cls(LPIPS.load(path), Ensemble(ensemble, resampling), vae, add_l1, draws)

    def forward(
        self, x0: torch.Tensor, x1: torch.Tensor, generator: torch.Generator | None = None,
        batch: int | None = None, rows: slice = slice(None),
    ) -> torch.Tensor:  # fmt: skip
        """Distances (N,) of latents x0 from their targets x1, both (N, C, s, s); x0 = G(z, c) gives Eq. 4.

        The transforms are sampled with `generator`, on the CPU. If x0 and x1 are only some `rows` of a batch of
        `batch` samples, the transforms of the whole batch are sampled, so they do not depend on how it is split.
        Raises ValueError if the latents are not square, and UserError as `LPIPS` does.
        """
        if self.vae:
            x0, x1 = scaled(x0, self.vae), scaled(x1, self.vae)
        self._warn_if_unscaled(x1)
        distances = 0.0
        for _ in range(self.draws):
            transform = self.ensemble.draw(batch or len(x0), x0.shape[-1], generator)[rows]
            distances = distances + self.metric(transform(x0), transform(x1)) / self.draws
        return distances + (x0 - x1).abs().mean((1, 2, 3)) if self.add_l1 else distances

    def _warn_if_unscaled(self, x1: torch.Tensor) -> None:
        if not self.looked and (deviation := x1.detach().float().std().item()) > LARGEST_DEVIATION:
            warnings.warn(
                f"latents with a standard deviation of {deviation:.1f} look unscaled: multiply them by the "
                "autoencoder's scaling factor, or give `vae`",
                stacklevel=3,
            )
        self.looked = True


def scaled(raw: torch.Tensor, vae: str) -> torch.Tensor:
    """Raw latents (N, C, h, w) of an autoencoder of `VAES`, scaled to a standard deviation of about 1."""
    shift, factor = VAES[vae]
    return (raw - shift) * factor


def distance(
    features: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], heads: Iterable[torch.Tensor], dropout: float = 0
) -> torch.Tensor:
    """ℓ (N,) of the taps (N, C, h, w): squared differences, weighted by heads (C,), averaged over positions, summed.

    At each position the feature vector is first scaled to unit length. During calibration, the squared
    differences pass through dropout.
    """
    taps = zip(features, targets, heads, strict=True)
    squared = ((F.dropout((_unit(f0) - _unit(f1)).square(), dropout), head) for f0, f1, head in taps)
    return torch.stack([(differences.mean((2, 3)) * head).sum(1) for differences, head in squared]).sum(0)


def _unit(features: torch.Tensor) -> torch.Tensor:
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    # ε is inside the root, so that the gradient is finite where every feature is zero
    return features * (features.square().sum(1, keepdim=True) + 1e-8).rsqrt()
