"""EDM: the pixel-space diffusion model of Table 6 (Karras et al. 2022), and consistency functions (Song et al. 2023).

The network is the DDPM++ or the NCSN++ of Song et al. 2021 in EDM's configuration: the checkpoints named -vp and -ve.
Its weights have the names of the official checkpoints (`edm_pickle.py` reads them).
"""

import math
from typing import Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # Karras et al. 2022, Table 1


class EDM(ModelMixin, ConfigMixin):
    """The denoiser D(x; σ) of Karras et al. 2022, Eq. 7, for images x (N, C, s, s); saved as a diffusers folder.

    `boundary` is the noise level ε at which the network is the identity: 0 gives EDM's denoiser, SIGMA_MIN the
    consistency function f(x, σ) of Song et al. 2023, Eq. 5 and Appendix C.
    The defaults are the official unconditional CIFAR-10 network. Its training was conditioned on the augmentation
    through a layer that is used only there, so this network does not have it.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        model_channels: int = 128,
        channel_mult: tuple[int, ...] = (2, 2, 2),
        num_blocks: int = 4,
        attn_resolutions: tuple[int, ...] = (16,),
        architecture: Literal["ddpmpp", "ncsnpp"] = "ddpmpp",
        dropout: float = 0.0,
        sigma_data: float = 0.5,
        boundary: float = 0.0,
    ):
        super().__init__()
        self.model = SongUNet(
            sample_size, in_channels, model_channels, channel_mult, num_blocks, attn_resolutions, architecture, dropout
        )  # fmt: skip

    def forward(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        """D(x; σ): the expected clean images for x (N, C, s, s) = image + σ · noise; σ is a scalar or (N,)."""
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))[:, None, None, None]
        deviation, above = self.config.sigma_data, sigma - self.config.boundary
        c_skip = deviation**2 / (above**2 + deviation**2)
        c_out = above * deviation / (sigma**2 + deviation**2).sqrt()
        c_in = 1 / (sigma**2 + deviation**2).sqrt()
        c_noise = sigma.flatten().log() / 4
        predicted = self.model((c_in * x).to(self.dtype), c_noise.to(self.dtype))
        return c_skip * x + c_out * predicted.to(x.dtype)


class SongUNet(nn.Module):
    """DDPM++ or NCSN++ (Song et al. 2021) as in EDM: F(x, c) for x (N, C, s, s) and the noise condition c (N,).

    Each level halves the side. It has `channel_mult` times `model_channels` channels, `num_blocks` blocks on the way
    down and one more on the way up; blocks at sides in `attn_resolutions` have attention. NCSN++ embeds c with random
    frequencies, resamples with a wider filter, and adds a pyramid of the input to the levels of the encoder.
    """

    def __init__(
        self, sample_size: int, in_channels: int, model_channels: int, channel_mult: tuple[int, ...], num_blocks: int,
        attn_resolutions: tuple[int, ...], architecture: str, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.model_channels, width, ncsnpp = model_channels, 4 * model_channels, architecture == "ncsnpp"
        self.map_noise = FourierEmbedding(2 * model_channels) if ncsnpp else None
        self.map_layer0 = _initialised(nn.Linear(model_channels * (2 if ncsnpp else 1), width))
        self.map_layer1 = _initialised(nn.Linear(width, width))

        def block(before: int, after: int, **kind) -> Block:
            return Block(before, after, width, dropout=dropout, smooth=ncsnpp, **kind)

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        channels = model_channels
        self.enc[f"{sample_size}x{sample_size}_conv"] = _initialised(nn.Conv2d(in_channels, channels, 3, padding=1))
        skips, pyramid = [channels], in_channels
        for level, factor in enumerate(channel_mult):
            side = sample_size >> level
            if level:
                self.enc[f"{side}x{side}_down"] = block(channels, channels, resample="down")
                skips.append(channels)
                if ncsnpp:
                    self.enc[f"{side}x{side}_aux_residual"] = _initialised(Pyramid(pyramid, channels, 3, padding=2))
                    pyramid = channels
            for number in range(num_blocks):
                attention = side in attn_resolutions
                self.enc[f"{side}x{side}_block{number}"] = block(channels, model_channels * factor, attention=attention)
                channels = model_channels * factor
                skips.append(channels)
        for level, factor in reversed(list(enumerate(channel_mult))):
            side = sample_size >> level
            if level == len(channel_mult) - 1:
                self.dec[f"{side}x{side}_in0"] = block(channels, channels, attention=True)
                self.dec[f"{side}x{side}_in1"] = block(channels, channels)
            else:
                self.dec[f"{side}x{side}_up"] = block(channels, channels, resample="up")
            for number in range(num_blocks + 1):
                attention = number == num_blocks and side in attn_resolutions
                self.dec[f"{side}x{side}_block{number}"] = block(
                    channels + skips.pop(), model_channels * factor, attention=attention
                )
                channels = model_channels * factor
        self.dec[f"{sample_size}x{sample_size}_aux_norm"] = _norm(channels)
        self.dec[f"{sample_size}x{sample_size}_aux_conv"] = _initialised(
            nn.Conv2d(channels, in_channels, 3, padding=1), 1e-5
        )

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        emb = self.map_noise(condition) if self.map_noise else noise_embedding(condition, self.model_channels)
        emb = F.silu(self.map_layer0(emb))
        emb = F.silu(self.map_layer1(emb))
        first, *blocks = self.enc.values()
        pyramid, x = x, first(x)
        skips = [x]
        for block in blocks:
            if isinstance(block, Pyramid):
                x = pyramid = skips[-1] = (x + block(pyramid)) / math.sqrt(2)
            else:
                x = block(x, emb)
                skips.append(x)
        *blocks, norm, last = self.dec.values()
        for block in blocks:
            if x.shape[1] != block.norm0.num_channels:
                x = torch.cat([x, skips.pop()], dim=1)
            x = block(x, emb)
        return last(F.silu(norm(x)))


class Block(nn.Module):
    """A residual block with optional resampling (`down` halves the side, `up` doubles it) and optional self-attention.

    Sums of two branches are divided by √2 (Song et al. 2021, "skip rescaling"). `smooth` resamples as NCSN++ does.
    """

    def __init__(
        self, before: int, after: int, width: int, dropout: float, attention: bool = False, resample: str | None = None,
        smooth: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.resample, self.dropout, self.smooth = resample, dropout, smooth
        self.norm0 = _norm(before)
        self.conv0 = _initialised(nn.Conv2d(before, after, 3, padding=1))
        self.affine = _initialised(nn.Linear(width, after))
        self.norm1 = _norm(after)
        self.conv1 = _initialised(nn.Conv2d(after, after, 3, padding=1), 1e-5)
        self.skip = _initialised(nn.Conv2d(before, after, 1)) if before != after or resample else None
        self.norm2 = _norm(after) if attention else None
        self.qkv = _initialised(nn.Conv2d(after, 3 * after, 1), math.sqrt(0.2)) if attention else None
        self.proj = _initialised(nn.Conv2d(after, after, 1), 1e-5) if attention else None

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        h = self.conv0(_resampled(F.silu(self.norm0(x)), self.resample, self.smooth))
        h = F.silu(self.norm1(h + self.affine(emb)[:, :, None, None]))
        h = self.conv1(F.dropout(h, self.dropout, self.training))
        x = _resampled(x, self.resample, self.smooth)
        x = (h + (self.skip(x) if self.skip else x)) / math.sqrt(2)
        return (self._attend(x) + x) / math.sqrt(2) if self.qkv else x

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        # the official weights interleave query, key and value by channel
        parts = self.qkv(self.norm2(x)).unflatten(1, (x.shape[1], 3)).flatten(3).transpose(1, 3).unbind(2)
        attended = F.scaled_dot_product_attention(*(part.unsqueeze(1) for part in parts)).squeeze(1)
        return self.proj(attended.transpose(1, 2).reshape(x.shape))


class Pyramid(nn.Conv2d):
    """The next level of NCSN++'s pyramid of the input: a 3 × 3 convolution, then half the sides.

    As in EDM, the convolution pads by 2, so that the filter needs no padding of its own.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(_smoothed(super().forward(x), padding=0), 2)


class FourierEmbedding(nn.Module):
    """Sines and cosines (N, channels) of c (N,) at random frequencies that are not trained (Song et al. 2021)."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("freqs", 16 * torch.randn(channels // 2))

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        angles = condition[:, None] * (2 * math.pi * self.freqs)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def noise_embedding(condition: torch.Tensor, channels: int) -> torch.Tensor:
    """Sines and cosines (N, channels) of c (N,) at frequencies 1 … 1/10000 (Vaswani et al. 2017)."""
    half = channels // 2
    exponents = torch.arange(half, dtype=condition.dtype, device=condition.device) / (half - 1)
    angles = condition[:, None] * 10000.0**-exponents
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def noise_levels(count: int) -> torch.Tensor:
    """σ (count,), float64, from SIGMA_MAX down to SIGMA_MIN (Karras et al. 2022, Eq. 5)."""
    ends = [sigma ** (1 / RHO) for sigma in (SIGMA_MAX, SIGMA_MIN)]
    return torch.linspace(*ends, count, dtype=torch.float64) ** RHO


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels, eps=1e-6)


def _initialised(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> nn.Linear | nn.Conv2d:
    """Initialise weights by Xavier's rule times a gain and biases with 0, as EDM does for both networks."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _resampled(x: torch.Tensor, how: str | None, smooth: bool) -> torch.Tensor:
    """Halve the sides by averaging 2 × 2 pixels, or double them by repeating; both with a wider filter if `smooth`.

    DDPM++'s filter is [1, 1]. NCSN++'s is [1, 3, 3, 1], the convolution of [1, 1] and [1, 2, 1].
    """
    if how == "down":
        return F.avg_pool2d(_smoothed(x) if smooth else x, 2)
    if how == "up":
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return _smoothed(x) if smooth else x
    return x


def _smoothed(x: torch.Tensor, padding: int = 1) -> torch.Tensor:
    """Filter with [1, 2, 1] / 4 along both sides, as two averages of neighbours, with zeros around x."""
    return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1, padding=padding), 2, stride=1)
