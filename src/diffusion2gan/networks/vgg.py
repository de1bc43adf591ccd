"""VGG16 with batch norm, for pixels or for latents, at any width: the trunk F of (Latent)LPIPS (Sec. 3.2).

The latent network lacks the first three max-pools, because latents are already downsampled 8×, and its
first convolution takes the latent's channels (Sec. 3.2, "Learning LatentLPIPS").
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic
from diffusion2gan.weights import fill, read_tensors

SPACES = ("latent", "pixel")
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # (channels, convolutions): configuration D of VGG
REMOVED_POOLS = 3
# ImageNet's mean and standard deviation for images in [-1, 1], rounded as in the `lpips` package
IMAGENET_MEAN, IMAGENET_DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class VGG(nn.Module):
    """Simonyan & Zisserman's VGG16 (2015), with batch norm (Ioffe & Szegedy 2015) and a classifier.

    `space` is `latent` or `pixel`, `channels` the number of input channels, `width` a factor on all other
    channels (1.0 is VGG16). At full width the classifier is VGG's three linear layers; narrower networks have
    a global average and one linear layer (ours). With `classes` = 0 there is no classifier. `standardised`
    networks normalise images by ImageNet's mean and deviation, as torchvision's weights expect.
    """

    def __init__(
        self, space: str, channels: int, classes: int, width: float = 1.0, batch_norm: bool = True,
        standardised: bool = False,
    ):  # fmt: skip
        super().__init__()
        if space not in SPACES:
            raise UserError(f"no space '{space}' for a VGG: use {' or '.join(SPACES)}")
        self.settings = {
            "space": space, "channels": channels, "classes": classes, "width": width, "batch_norm": batch_norm,
            "standardised": standardised,
        }  # fmt: skip
        self.space, self.channels, self.standardised = space, channels, standardised
        self.widths = [max(8, round(block_width * width)) for block_width, _ in BLOCKS]
        self.blocks = nn.ModuleList()
        before = channels
        for after, (_, convolutions) in zip(self.widths, BLOCKS, strict=True):
            layers = []
            for _ in range(convolutions):
                layers.append(nn.Conv2d(before, after, 3, padding=1))
                layers += [nn.BatchNorm2d(after)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                before = after
            self.blocks.append(nn.Sequential(*layers))
        self.classifier = _classifier(before, classes, width) if classes else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)  # the faster layout of the same weights

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The five taps for inputs (N, channels, h, w): the output of each block, after its last ReLU.

        In latents, taps 4 and 5 come after the max-pool, so the sides are h, h, h, h/2, h/4 (as in the
        authors' E-LatentLPIPS package); in pixels every tap comes before the pool (Zhang et al. 2018).
        """
        if self.standardised:
            x = (x - x.new_tensor(IMAGENET_MEAN)[:, None, None]) / x.new_tensor(IMAGENET_DEVIATION)[:, None, None]
        taps = []
        for number, block in enumerate(self.blocks):
            if self.space == "pixel" and number:
                x = F.max_pool2d(x, 2)
            x = block(x)
            if self.space == "latent" and number >= REMOVED_POOLS:
                x = F.max_pool2d(x, 2)
            taps.append(x)
        return taps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) for inputs (N, channels, h, w)."""
        last = self.features(x)[-1]
        return self.classifier(F.max_pool2d(last, 2) if self.space == "pixel" else last)

    def folded(self) -> "VGG":
        """The trunk in evaluation mode, with each batch norm folded into its convolution; no classifier.

        It has no running statistics and no dropout, so `train()` cannot change what it computes.
        """
        if not self.settings["batch_norm"]:
            return self
        trunk = VGG(**self.settings | {"classes": 0, "batch_norm": False})
        folded, convolutions, norms = (
            [module for module in network.blocks.modules() if isinstance(module, kind)]
            for network, kind in ((trunk, nn.Conv2d), (self, nn.Conv2d), (self, nn.BatchNorm2d))
        )
        with torch.no_grad():
            for target, conv, norm in zip(folded, convolutions, norms, strict=True):
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                target.weight.copy_(conv.weight * scale[:, None, None, None])
                target.bias.copy_((conv.bias - norm.running_mean) * scale + norm.bias)
        return trunk.to(next(self.parameters()))

    def save(self, path: Path) -> None:
        """Write the weights and the settings of the network as safetensors."""
        write(path, self.state_dict(), self.settings)

    @classmethod
    def load(cls, path: Path) -> "VGG":
        """The network saved at `path`. Raises UserError if there is none."""
        weights, settings = read(path, "a VGG (make it with train_vgg.py)")
        network = cls(**settings)
        fill(network, weights, path)
        return network


def write(path: Path, weights: dict[str, torch.Tensor], settings: dict) -> None:
    """Write weights and the settings of their network as one safetensors file, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic(Path(path)) as temporary:
        save_file(tensors, temporary, metadata={"settings": json.dumps(settings)})


def read(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights and settings from a file of `write`. Raises UserError for any other file; the message asks for `kind`."""
    try:
        weights, metadata = read_tensors(path)
        return weights, json.loads(metadata["settings"])
    except (UserError, KeyError) as error:
        raise UserError(f"'{path}' is not {kind}: {error}") from error


def _classifier(channels: int, classes: int, width: float) -> nn.Sequential:
    if width < 1:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    hidden = 4096
    layers: Sequence[nn.Module] = (
        nn.AdaptiveAvgPool2d(7), nn.Flatten(),
        nn.Linear(channels * 7 * 7, hidden), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(hidden, classes),
    )  # fmt: skip
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
