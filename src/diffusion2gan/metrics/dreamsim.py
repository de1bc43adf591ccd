"""DreamSim (Fu et al. 2023), a perceptual distance, and the paper's two metrics based on it (Sec. 4.3).

DreamSim-5k is the distance between samples of teacher and student from the same noise: how well the student follows
the teacher's ODE. DreamDiv-5k is the distance between samples of the same prompt: their diversity.
"""

from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.progress import track
from diffusion2gan.sampling.folder import ImageFiles

BATCH = 50
CACHE = Path.home() / ".cache" / "dreamsim"


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
        except (OSError, KeyError) as error:
            raise UserError(
                f"DreamSim's '{spec}' can be neither fetched nor read ({error}): unpack its weights from "
                f"https://github.com/ssundaram21/dreamsim/releases into {CACHE}, or name another type"
            ) from error
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
        return torch.cat([self.model.embed(x.to(self.device)).float().cpu() for x in inputs])


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
