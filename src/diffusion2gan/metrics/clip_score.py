"""CLIP score (Hessel et al. 2021), how well images match their captions."""

from collections.abc import Sequence

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.finite import check_finite
from diffusion2gan.progress import track
from diffusion2gan.sampling.folder import ImageFiles
from diffusion2gan.weights import check_weights, reason

BATCH = 50


class CLIP:
    """An open_clip model that maps images and captions to vectors (N, D), float32 on the CPU.

    `spec` is `local-dir:FOLDER`, an open_clip folder with its tokenizer, or `MODEL/PRETRAINED`, for example
    `ViT-g-14/laion2b_s12b_b42k`. `prefix` is put before every caption. Raises UserError if it cannot be loaded.
    """

    def __init__(self, spec: str, device: torch.device, prefix: str = ""):
        name, pretrained = (spec, None) if spec.startswith("local-dir:") else spec.partition("/")[::2]
        try:
            self.model, self.preprocess = open_clip.create_model_from_pretrained(name, pretrained, device=device)
            self.tokenizer = open_clip.get_tokenizer(name)
        except (RuntimeError, OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"the CLIP '{spec}' cannot be loaded ({reason(error)}): use local-dir:FOLDER or MODEL/PRETRAINED, "
                "for example ViT-g-14/laion2b_s12b_b42k"
            ) from error
        check_weights(self.model, spec)
        self.model.requires_grad_(False).eval()
        self.device, self.spec, self.prefix = device, spec, prefix

    @property
    def recipe(self) -> dict:
        """The settings that the score depends on."""
        return {"clip": self.spec, "clip_prefix": self.prefix}

    @torch.no_grad()
    def images(self, images: ImageFiles) -> torch.Tensor:
        """Unit vectors of images."""
        return F.normalize(self.embed(images))

    @torch.no_grad()
    def embed(self, images: ImageFiles) -> torch.Tensor:
        """Vectors of images, not normalised; images are preprocessed as in the model's training."""
        batches = track(images.batches(BATCH), "CLIP of the images", total=-(-len(images) // BATCH))
        inputs = (torch.stack([self.preprocess(Image.fromarray(image)) for image in batch]) for batch in batches)
        vectors = torch.cat([self.model.encode_image(x.to(self.device)).float().cpu() for x in inputs])
        return check_finite(vectors, f"{self.spec}: the vector of image")

    @torch.no_grad()
    def captions(self, captions: Sequence[str], prefix: str | None = None) -> torch.Tensor:
        """Unit vectors of captions, with the prefix of this model or another."""
        prefix = self.prefix if prefix is None else prefix
        tokens = self.tokenizer([prefix + caption for caption in captions]).to(self.device)
        vectors = torch.cat([self.model.encode_text(x, normalize=True).float().cpu() for x in tokens.split(BATCH)])
        return check_finite(vectors, f"{self.spec}: the vector of caption")


def clip_score(images: torch.Tensor, captions: torch.Tensor) -> float:
    """Mean cosine in [-1, 1] between unit vectors (N, D) of images and of their captions; higher is better."""
    return cosines(images, captions).mean().item()


def cosines(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """The cosine (N,) of each image and its caption."""
    return (images * captions).sum(dim=1).double()
