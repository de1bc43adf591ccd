"""GigaGAN's discriminator (Kang et al., CVPR 2023, Sec. 3.3) on latents, trained from scratch: second row of Table 2.

Its matching-aware loss is in `training.adversarial`.
"""

import torch
from torch import nn
from torch.nn import functional as F


class GigaGANDiscriminator(nn.Module):
    """A convolutional discriminator with multi-scale input and output.

    The resized latent enters the backbone at every scale. From each entry, features pass through all coarser
    scales, and every scale on the way predicts logits. For latents (C, h, h) the scales have sides h, h/2, …, down
    to 4; `text_width` is the width of the text embeddings. All sizes are ours: `width` channels at the finest scale,
    doubled at each halving up to `max_width`, self-attention at sides up to `attention_side`, `text_layers` layers in
    the text branch.
    """

    def __init__(
        self,
        latent_shape: tuple[int, int, int],
        text_width: int,
        width: int = 128,
        max_width: int = 512,
        attention_side: int = 16,
        text_layers: int = 2,
    ):  # ours
        super().__init__()
        channels, side, _ = latent_shape
        sides = [side >> i for i in range(side.bit_length()) if side >> i >= 4]
        widths = [min(width << i, max_width) for i in range(len(sides))]
        self.text = TextBranch(text_width, max_width, text_layers)
        self.scales = nn.ModuleList(
            Scale(channels, here, coarser, max_width, attention=side <= attention_side)
            for side, here, coarser in zip(sides, widths, [*widths[1:], None], strict=True)
        )

    def forward(
        self, x: torch.Tensor, z: torch.Tensor, text_embeddings: torch.Tensor, **added: torch.Tensor
    ) -> list[torch.Tensor]:
        """Logit maps (N, 1, h', w') for every (entry, exit); positive means real.

        GigaGAN's discriminator has no noise input: z is ignored, and so are SDXL's added conditions.
        """
        text = self.text(text_embeddings)
        logits = []
        for entry in range(len(self.scales)):
            features = self.scales[entry].enter(F.avg_pool2d(x, 1 << entry))
            for scale in self.scales[entry:]:
                features = scale.body(features)
                logits.append(scale.predictor(features, text))
                features = scale.coarser(features)
        return logits


class TextBranch(nn.Module):
    """Text embeddings (N, T, D) → one descriptor (N, width): a transformer over the frozen embeddings and one
    learnt token, whose output is the descriptor."""

    def __init__(self, text_width: int, width: int, layers: int):
        super().__init__()
        self.project = nn.Linear(text_width, width)
        self.read = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, nhead=8, dim_feedforward=4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        tokens = torch.cat([self.read.expand(len(text), -1, -1), self.project(text)], dim=1)
        return self.layers(tokens)[:, 0]


class Scale(nn.Module):
    """One scale of the backbone: the layer where latents enter, residual block, predictor, downsampling."""

    def __init__(self, latent: int, width: int, coarser: int | None, text_width: int, attention: bool):
        super().__init__()
        self.enter = nn.Conv2d(latent, width, 3, padding=1)
        self.body = nn.Sequential(Residual(width), L2Attention(width) if attention else nn.Identity())
        self.predictor = Predictor(width, text_width)
        self.coarser = nn.Conv2d(width, coarser, 3, stride=2, padding=1) if coarser else nn.Identity()


class Residual(nn.Module):
    """A residual block of two convolutions, scaled to keep unit variance; no normalisation."""

    def __init__(self, width: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features + self.convolutions(features)) * 0.5**0.5


class L2Attention(nn.Module):
    """Self-attention by L2 distance: softmax(-‖q - k‖² / √d) v with tied q and k. Unlike dot-product attention,
    it is Lipschitz continuous (Kim et al., ICML 2021)."""

    def __init__(self, width: int, head_width: int = 64):
        super().__init__()
        self.heads = max(1, width // head_width)
        self.queries = nn.Conv2d(width, width, 1, bias=False)
        self.values = nn.Conv2d(width, width, 1, bias=False)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        def split(tensor):  # (N, heads, locations, width of a head)
            return tensor.unflatten(1, (self.heads, -1)).flatten(3).transpose(2, 3)

        queries, values = split(self.queries(features)), split(self.values(features))
        # ‖q‖² is the same for every key, so it cancels in the softmax
        closeness = 2 * queries @ queries.mT - queries.square().sum(-1).unsqueeze(-2)
        attended = (closeness / queries.shape[-1] ** 0.5).softmax(-1) @ values
        attended = attended.transpose(2, 3).flatten(1, 2).unflatten(2, features.shape[-2:])
        return features + self.out(attended)


class Predictor(nn.Module):
    """ψ(φ, t) + Conv(φ): four 1 × 1 convolutions modulated by the text, and an unconditional prediction."""

    def __init__(self, width: int, text_width: int):
        super().__init__()
        self.modulated = nn.ModuleList(ModulatedConv(width, text_width) for _ in range(4))
        self.conditional = nn.Conv2d(width, 1, 1)
        self.unconditional = nn.Conv2d(width, 1, 1)

    def forward(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        matched = features
        for convolution in self.modulated:
            matched = F.leaky_relu(convolution(matched, text), 0.2)
        return self.conditional(matched) + self.unconditional(features)


class ModulatedConv(nn.Module):
    """A 1 × 1 convolution whose input channels are scaled by the text, with demodulation to unit variance
    (Karras et al., CVPR 2020)."""

    def __init__(self, width: int, text_width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))
        self.style = nn.Linear(text_width, width)
        nn.init.ones_(self.style.bias)

    def forward(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        weight = self.weight * self.style(text).unsqueeze(1)  # (N, out, in)
        weight = weight * (weight.square().sum(2, keepdim=True) + 1e-8).rsqrt()
        return (weight @ features.flatten(2)).unflatten(2, features.shape[-2:]) + self.bias
