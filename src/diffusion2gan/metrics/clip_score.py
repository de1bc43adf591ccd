"""CLIP score (Hessel et al. 2021): how well do pictures match their captions."""

from collections.abc import Sequence
from functools import cache

import open_clip
import torch
from PIL import Image
from torch.nn import functional as F

from diffusion2gan.errors import UserError
from diffusion2gan.progress import track
from diffusion2gan.sampling.folder import Pictures
from diffusion2gan.toy import openmoji

BATCH = 50


class CLIP:
    """An open_clip model: pictures and captions → vectors (N, D), float32 on the CPU.

    `spec` is `local-dir:FOLDER`, an open_clip folder with its own tokenizer, or `MODEL/PRETRAINED`, as in
    `ViT-g-14/laion2b_s12b_b42k`. `prefix` comes before every caption. Raises UserError when it cannot be loaded.
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
        """What the score depends on."""
        return {"clip": self.spec, "clip_prefix": self.prefix}

    @torch.no_grad()
    def pictures(self, pictures: Pictures) -> torch.Tensor:
        """Unit vectors of pictures."""
        return F.normalize(self.embed(pictures))

    @torch.no_grad()
    def embed(self, pictures: Pictures) -> torch.Tensor:
        """Vectors of pictures as they leave the model, after the preprocessing that it was trained with."""
        batches = track(pictures.batches(BATCH), "CLIP of the pictures", total=-(-len(pictures) // BATCH))
        inputs = (torch.stack([self.preprocess(Image.fromarray(picture)) for picture in batch]) for batch in batches)
        return torch.cat([self.model.encode_image(x.to(self.device)).float().cpu() for x in inputs])

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit vectors of captions."""
        tokens = self.tokenizer([self.prefix + caption for caption in captions]).to(self.device)
        return torch.cat([self.model.encode_text(x, normalize=True).float().cpu() for x in tokens.split(BATCH)])


def clip_score(pictures: torch.Tensor, captions: torch.Tensor) -> float:
    """Mean cosine in [-1, 1] between unit vectors (N, D) of pictures and of their captions; higher is better."""
    return cosines(pictures, captions).mean().item()


def cosines(pictures: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """The cosine (N,) of each picture and its caption."""
    return (pictures * captions).sum(dim=1).double()


def scene_classes(clip: CLIP, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """The `emoji` and the `ground` (N,) that CLIP names in the unit vectors (N, D) of OpenMoji pictures."""
    return {part: (pictures @ classes.T).argmax(dim=1) for part, classes in _scene_vectors(clip).items()}


@cache
def _scene_vectors(clip: CLIP) -> dict[str, torch.Tensor]:
    prompts = openmoji.prompts("all")
    vectors = clip.captions([prompt.caption for prompt in prompts])
    return {part: class_vectors(vectors, [getattr(p, part) for p in prompts]) for part in ("emoji", "ground")}


def class_vectors(captions: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Unit vectors (K, D) of classes: the direction of the mean of their captions' vectors (N, D).

    Prompt ensembling, Radford et al. 2021, Sec. 3.1.4.
    """
    sums = torch.zeros(max(classes) + 1, captions.shape[1]).index_add_(0, torch.tensor(classes), captions)
    return F.normalize(sums)


def scene_top1(clip: CLIP, pictures: torch.Tensor, captions: Sequence[str]) -> dict[str, float]:
    """Share of OpenMoji pictures whose emoji, and whose ground, CLIP names as the caption does.

    Empty for captions of anything else.
    """
    scenes = {prompt.caption: prompt for prompt in openmoji.prompts("all")}
    if not scenes.keys() >= set(captions):
        return {}
    shares = {}
    for part, named in scene_classes(clip, pictures).items():
        true = torch.tensor([getattr(scenes[caption], part) for caption in captions])
        shares[f"{part}_top1"] = (named == true).double().mean().item()
    return shares
