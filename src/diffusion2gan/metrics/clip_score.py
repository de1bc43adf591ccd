"""CLIP score (Hessel et al. 2021), how well images match their captions, and CLIP's zero-shot classification."""

from collections.abc import Mapping, Sequence

import open_clip
import torch
from PIL import Image
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.progress import track
from diffusion2gan.sampling.folder import ImageFiles

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
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(
                f"the CLIP '{spec}' cannot be loaded ({error}): use local-dir:FOLDER or MODEL/PRETRAINED, "
                "for example ViT-g-14/laion2b_s12b_b42k"
            ) from error
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
        return torch.cat([self.model.encode_image(x.to(self.device)).float().cpu() for x in inputs])

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit vectors of captions."""
        tokens = self.tokenizer([self.prefix + caption for caption in captions]).to(self.device)
        return torch.cat([self.model.encode_text(x, normalize=True).float().cpu() for x in tokens.split(BATCH)])


def clip_score(images: torch.Tensor, captions: torch.Tensor) -> float:
    """Mean cosine in [-1, 1] between unit vectors (N, D) of images and of their captions; higher is better."""
    return cosines(images, captions).mean().item()


def cosines(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """The cosine (N,) of each image and its caption."""
    return (images * captions).sum(dim=1).double()


class ZeroShot:
    """CLIP's zero-shot classification of images by each of several labels.

    `classes` holds, for each label, the captions of each of its classes. A class is represented by the mean of its
    captions' unit vectors (prompt ensembling, Radford et al. 2021, Sec. 3.1.4).
    """

    def __init__(self, clip: CLIP, classes: dict[str, list[list[str]]]):
        captions = list(dict.fromkeys(c for label in classes.values() for each in label for c in each))
        rows = {caption: row for row, caption in enumerate(captions)}
        vectors = clip.captions(captions)
        self.vectors = {}
        for label, of_label in classes.items():
            numbered = [(rows[caption], number) for number, each in enumerate(of_label) for caption in each]
            chosen, numbers = zip(*numbered, strict=True)
            self.vectors[label] = class_vectors(vectors[list(chosen)], numbers)

    def classify(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """For each label, the index of the nearest class (N,) of unit vectors (N, D) of images."""
        return {label: (images @ vectors.T).argmax(dim=1) for label, vectors in self.vectors.items()}

    def top1(self, images: torch.Tensor, true: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Accuracy in [0, 1] by each label, as `{label}_top1`; `true` holds the N true classes of each label."""
        return {
            f"{label}_top1": (found == torch.tensor(list(true[label]))).double().mean().item()
            for label, found in self.classify(images).items()
        }


def class_vectors(captions: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Unit vectors (K, D) of classes: the normalised mean of the unit vectors (N, D) of each class's captions."""
    sums = torch.zeros(max(classes) + 1, captions.shape[1]).index_add_(0, torch.tensor(classes), captions)
    return F.normalize(sums)
