"""DreamSim (Fu et al. 2023), the perceptual distance in the two metrics that the paper makes of it (Sec. 4.3).

DreamSim-5k: between what teacher and student draw from the same noise; how well the student keeps to the
teacher's ODE. DreamDiv-5k: between the pictures of one prompt; how diverse they are.
"""

from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.progress import track
from diffusion2gan.sampling.folder import Pictures

BATCH = 50
CACHE = Path.home() / ".cache" / "dreamsim"


class DreamSim:
    """Pictures → unit vectors (N, D), float32 on the CPU, whose distance is one minus their cosine.

    `spec` is `ensemble`, or another type that the dreamsim package has; `local-dir:FOLDER` is an open_clip
    folder that stands in for it where its weights are not, and then it is no DreamSim. Raises UserError when
    package or weights are missing.
    """

    def __init__(self, spec: str, device: torch.device):
        self.spec, self.device = spec, device
        if spec.startswith("local-dir:"):
            self.embed = CLIP(spec, device).embed
            return
        try:
            from dreamsim import dreamsim
        except ImportError as error:
            raise UserError("the package dreamsim is not installed: pip install 'diffusion2gan[paper]'") from error
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
        """What the distance depends on."""
        return {"dreamsim": self.spec}

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> torch.Tensor:
        return F.normalize(self.embed(pictures))

    def _embed(self, pictures: Pictures) -> torch.Tensor:
        batches = track(pictures.batches(BATCH), "DreamSim of the pictures", total=-(-len(pictures) // BATCH))
        inputs = (torch.cat([self.preprocess(Image.fromarray(picture)) for picture in batch]) for batch in batches)
        return torch.cat([self.model.embed(x.to(self.device)).float().cpu() for x in inputs])


def distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """1 − cosine (N,) between unit vectors (N, D), in float64."""
    return 1 - (first.double() * second.double()).sum(dim=1)


def diversities(vectors: torch.Tensor, repeats: int) -> torch.Tensor:
    """The mean distance (P,) between the `repeats` pictures of each prompt; unit vectors (P · repeats, D), prompt by
    prompt. ValueError for one picture a prompt, or a prompt that is cut short."""
    if repeats < 2 or len(vectors) % repeats:
        raise ValueError(f"{len(vectors)} pictures are not {repeats} of each prompt, of two or more")
    groups = vectors.double().unflatten(0, (-1, repeats))
    cosines = groups @ groups.mT
    between = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    return 1 - between / (repeats * (repeats - 1))
