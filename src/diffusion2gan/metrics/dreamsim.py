"""DreamSim (Fu et al. 2023), a perceptual distance, and the paper's two metrics based on it (Sec. 4.3).

DreamSim-5k is the distance between samples of teacher and student from the same noise: how well the student follows
the teacher's ODE. DreamDiv-5k is the distance between samples of the same prompt: their diversity.
"""

from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.finite import check_finite
from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.progress import track
from diffusion2gan.sampling.folder import ImageFiles

BATCH = 50
CACHE = Path.home() / ".cache" / "dreamsim"
# What torch.hub fetches into CACHE for a type built on DINO: the code of its network, and its first weights
DINO = ("facebookresearch_dino_main", "checkpoints/dino_vitbase16_pretrain.pth")
DINOV2 = ("facebookresearch_dinov2_main", "checkpoints/dinov2_vitb14_pretrain.pth")
HUB = {"ensemble": DINO, "dino_vitb16": DINO, "dinov2_vitb14": DINOV2}


class DreamSim:
    """Maps images to unit vectors (N, D), float32 on the CPU; the distance is one minus their cosine.

    `spec` is `ensemble` or another type of the dreamsim package. `local-dir:FOLDER` is an open_clip folder that
    replaces DreamSim where its weights are missing; its distances are not DreamSim's. Raises UserError if the package
    or the weights are missing.
    """

    def __init__(self, spec: str, device: torch.device):
        self.spec, self.device = spec, device
        if spec.startswith("local-dir:"):
            self.embed = CLIP(spec, device).embed
            return
        try:
            from dreamsim import dreamsim
        except ImportError as error:
            raise UserError(
                "the package dreamsim is not installed: pip install -e '.[paper]' in this project's folder"
            ) from error
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            self.model, self.preprocess = dreamsim(
                pretrained=True, device=str(device), cache_dir=str(CACHE), dreamsim_type=spec
            )
        except (OSError, KeyError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"DreamSim's '{spec}' can be neither fetched nor read ({reason}): {hint(spec)}") from error
        self.embed = self._embed

    @property
    def recipe(self) -> dict:
        """The settings that the distance depends on."""
        return {"dreamsim": self.spec}

    @torch.no_grad()
    def __call__(self, images: ImageFiles) -> torch.Tensor:
        return F.normalize(self.embed(images))

    def _embed(self, images: ImageFiles) -> torch.Tensor:
        batches = track(images.batches(BATCH), "DreamSim of the images", total=-(-len(images) // BATCH))
        inputs = (torch.cat([self.preprocess(Image.fromarray(image)) for image in batch]) for batch in batches)
        vectors = torch.cat([self.model.embed(x.to(self.device)).float().cpu() for x in inputs])
        return check_finite(vectors, f"DreamSim's {self.spec}: the vector of image")


def missing(spec: str) -> list[str]:
    """The files and folders of a type of the dreamsim package that are not in CACHE."""
    weights = "ensemble_lora" if spec == "ensemble" else f"{spec}_single_lora"
    return [name for name in (weights, *HUB.get(spec, ())) if not (CACHE / name).exists()]


def hint(spec: str) -> str:
    """How to fetch a type of DreamSim where there is a network."""
    hub = " and, through torch.hub, DINO's code and weights" if spec in HUB else ""
    call = f"from dreamsim import dreamsim; dreamsim(device='cpu', cache_dir='{CACHE}', dreamsim_type='{spec}')"
    return (
        f'where there is a network, `mkdir -p {CACHE} && python -c "{call}"` fetches its weights{hub}; or name another '
        "type as `dreamsim`"
    )


def distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """1 − cosine (N,) between unit vectors (N, D), in float64."""
    return 1 - (first.double() * second.double()).sum(dim=1)


def diversities(vectors: torch.Tensor, repeats: int) -> torch.Tensor:
    """Mean distance (P,) between the `repeats` images of each prompt, from unit vectors (P · repeats, D).

    Vectors of one prompt follow each other. Raises ValueError for fewer than two images per prompt, or if a prompt is
    incomplete.
    """
    if repeats < 2 or len(vectors) % repeats:
        raise ValueError(f"{len(vectors)} images are not {repeats} of each prompt, two or more")
    groups = vectors.double().unflatten(0, (-1, repeats))
    cosines = groups @ groups.mT
    between = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    return 1 - between / (repeats * (repeats - 1))
