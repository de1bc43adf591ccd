"""Published weights of perceptual metrics: torchvision's VGG16, and the authors' calibrated metrics of latents.

Both have the full width, because their readers build the full network.
"""

from pathlib import Path

import torch
from torch import nn


def torchvision_vgg16(path: Path, seed: int = 0) -> nn.Module:
    """Write `vgg16-397923af.pth` and return the network; its classifier, which no reader uses, is left out."""
    import torchvision

    with torch.device("meta"):
        network = torchvision.models.vgg16(weights=None)
    network.features.to_empty(device="cpu")
    torch.manual_seed(seed)
    _randomise(network.features)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: tensor for name, tensor in network.state_dict().items() if name.startswith("features")}, path)
    return network


def authors_metric(folder: Path, encoder: str, channels: int) -> tuple[nn.Module, Path]:
    """The authors' metric with random weights, and its file `{encoder}_latest_vgg16_tuned.pth` in `folder`.

    Their package fetches a classifier into ./ckpt before it loads the metric, so call this in an empty folder.
    """
    import elatentlpips
    from elatentlpips.vgg16 import LatentVGG16BN

    (folder / "ckpt").mkdir(parents=True)
    classifier = {"state_dict": LatentVGG16BN(channels).state_dict(), "best_acc1": 0}
    torch.save(classifier, folder / "ckpt" / f"{encoder}_latent_vgg16.pth.tar")
    theirs = elatentlpips.ELatentLPIPS(pretrained=False, encoder=encoder, augment=None, verbose=False)
    torch.manual_seed(0)
    _randomise(theirs.net)
    for name, parameter in theirs.named_parameters():
        if name.startswith("lin"):
            parameter.data.uniform_(0, 1)
    tuned = folder / f"{encoder}_latest_vgg16_tuned.pth"
    torch.save(theirs.state_dict(), tuned)
    return theirs, tuned


def _randomise(network: nn.Module) -> None:
    for convolution in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        convolution.weight.data.normal_(0, (2 / convolution.weight[0].numel()) ** 0.5)
        convolution.bias.data.normal_(0, 0.1)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.1)
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
