"""Published weights for our LPIPS: only tensors are read, and their layout is checked.

There are two kinds of `.pth` files: the calibrated latent metrics of the authors' E-LatentLPIPS package
(`{vae}_latest_vgg16_tuned.pth`), and torchvision's ImageNet VGG16, whose heads come with the `lpips`
package (Zhang et al. 2018).
"""

from importlib.util import find_spec
from pathlib import Path

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.weights import check_keys, fill, read_tensors

SUFFIXES = (".pth", ".pt")
HUB = ("Mingguksky/elatentlpips", "elatentlpips_ckpt/{vae}_latest_vgg16_tuned.pth")


def fetch(vae: str) -> Path:
    """Download the authors' metric for an autoencoder into the hub's cache. Raises UserError if that fails."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, name = HUB[0], HUB[1].format(vae=vae)
    try:
        return Path(hf_hub_download(repository, name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name} of the hub's {repository} cannot be fetched: give the path of a copy ({type(error).__name__})"
        ) from error


def read(path: Path) -> tuple[VGG, list[torch.Tensor]]:
    """The trunk and the five heads (channels,) in a published file. Raises UserError for any other file."""
    if not path.exists():
        raise UserError(
            f"there is no '{path}': torchvision's VGG16 is https://download.pytorch.org/models/vgg16-397923af.pth "
            f"(528 MB), the authors' metrics are in https://huggingface.co/{HUB[0]}"
        )
    weights, _ = read_tensors(path)
    if "net.slice1.0.weight" in weights:
        channels = weights["net.slice1.0.weight"].shape[1]
        trunk, prefix = VGG("latent", channels, 0), "net.slice"
        heads = _heads(weights, path)
    elif "features.0.weight" in weights and weights["features.0.weight"].shape[1] == 3:
        trunk, prefix = VGG("pixel", 3, 0, batch_norm=False, standardised=True), "features."
        heads = _heads(read_tensors(_pixel_heads())[0], _pixel_heads())
    else:
        raise UserError(
            f"'{path}' has another layout: give a calibrated latent metric (*_latest_vgg16_tuned.pth), "
            "torchvision's vgg16-397923af.pth, or a .safetensors of calibrate_lpips.py"
        )
    # the same layers in the same order; only their names differ
    theirs = [tensor for name, tensor in weights.items() if name.startswith(prefix)]
    ours = trunk.state_dict()
    if [tensor.shape for tensor in theirs] != [tensor.shape for tensor in ours.values()]:
        raise UserError(f"'{path}' has the names of a VGG16, but tensors of other shapes: use the published file")
    fill(trunk, dict(zip(ours, theirs, strict=True)), path)
    return trunk, heads


def _pixel_heads() -> Path:
    """The file of VGG16's heads in the package `lpips`, which is not imported: it would import torchvision."""
    package = find_spec("lpips")
    if package is None:
        raise UserError("the heads of LPIPS in pixels come with the package `lpips`: pip install lpips")
    return Path(package.origin).parent / "weights" / "v0.1" / "vgg.pth"


def _heads(weights: dict[str, torch.Tensor], path: Path) -> list[torch.Tensor]:
    names = [f"lin{tap}.model.1.weight" for tap in range(5)]
    check_keys(path, [name for name in names if name not in weights])
    return [weights[name].flatten() for name in names]
