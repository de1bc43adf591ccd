"""The networks of the paper at full size, with fake weights: teachers, students, the metric's VGG."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from diffusion2gan.configurations import fetch_teacher
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.memory.count import fake
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.pixel.model import PixelGenerator, PixelTeacher
from diffusion2gan.teacher import Teacher

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_G = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
SD15 = {
    "unet": {
        "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    },
    "vae": VAE,
    "text": [CLIP_L],
}  # fmt: skip
SDXL = {
    "unet": {
        "sample_size": 128, "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20), "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    },
    "vae": VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    "text": [CLIP_L, CLIP_G],
}  # fmt: skip
# the pipelines of the hub whose configuration is known without a network
KNOWN = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": SD15,
    "stabilityai/stable-diffusion-xl-base-1.0": SDXL,
}


def known(path: str) -> bool:
    """Whether the networks of a pipeline can be built: those of a folder, or of a pipeline in `KNOWN`."""
    return path in KNOWN or (Path(path) / "unet" / "config.json").is_file()


@dataclass(frozen=True)
class Source:
    """A teacher, its student and their metric, with fake weights.

    `path` is the teacher's pipeline, "" for a teacher in pixels; `shape` is (channels, height, width) of its latents or
    images; `weights` is the number of weights of a teacher in pixels, which tells its architecture.
    """

    path: str
    shape: tuple[int, int, int]
    weights: int = 0

    def make(
        self, build: Callable[[], nn.Module], dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> nn.Module:
        """The network that `build` makes, with fake weights; on the device "meta" it has none."""
        return fake(build, dtype, device)

    def teacher(self, dtype: torch.dtype = torch.float32, idle: bool = False) -> Teacher | PixelTeacher:
        """The teacher; if it is `idle`, its U-Net has no weights."""
        return Teacher(self._pipeline(dtype, idle)) if self.path else PixelTeacher(self._edm(idle))

    def student(self) -> Generator | PixelGenerator:
        """A student of the teacher."""
        if not self.path:
            return PixelGenerator(self._edm())
        config = _configs(self.path)["unet"]
        return Generator(self.make(lambda: UNet2DConditionModel.from_config(config)), scheduler())

    def metric(self, space: str) -> LPIPS:
        """A metric of full width for images or for the teacher's latents."""
        trunk = self.make(lambda: VGG(space, 3 if space == "pixel" else self.shape[0], 0, batch_norm=False))
        return LPIPS(trunk, [torch.ones(width) for width in trunk.widths])

    def _edm(self, idle: bool = False) -> EDM:
        """EDM's network, DDPM++ or NCSN++, that has `weights` weights. Raises UserError if neither does."""
        shape = {"sample_size": self.shape[-1], "in_channels": self.shape[0]}
        for architecture in ("ddpmpp", "ncsnpp"):
            network = self.make(lambda kind=architecture: EDM(**shape, architecture=kind), device=_device(idle))
            if sum(weight.numel() for weight in network.parameters()) == self.weights:
                return network
        raise UserError(f"no network of EDM has {self.weights} weights: its memory cannot be counted")

    def _pipeline(self, dtype: torch.dtype, idle: bool) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
        networks, encoders = _configs(self.path), []
        for number, config in enumerate(networks["text"]):
            kind = CLIPTextModelWithProjection if number else CLIPTextModel
            encoders.append(self.make(lambda kind=kind, config=config: kind(CLIPTextConfig(**config)), dtype))
        parts = {
            "unet": self.make(lambda: UNet2DConditionModel.from_config(networks["unet"]), dtype, _device(idle)),
            "vae": self.make(lambda: AutoencoderKL.from_config(networks["vae"]), dtype),
            "scheduler": scheduler(),
            "text_encoder": encoders[0],
            "tokenizer": Tokens(networks["text"][0]),
        }
        if len(encoders) > 1:
            second = {"text_encoder_2": encoders[1], "tokenizer_2": Tokens(networks["text"][1])}
            return StableDiffusionXLPipeline(**parts, **second, add_watermarker=False)
        nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return StableDiffusionPipeline(**parts, **nothing)


class Tokens:
    """A tokenizer without a vocabulary: the captions' ids are all the same."""

    def __init__(self, config: dict):
        self.model_max_length = config.get("max_position_embeddings", 77)

    def __call__(self, captions: Sequence[str], **options) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.ones(len(captions), self.model_max_length, dtype=torch.long))


def _configs(path: str) -> dict:
    """The configurations of a pipeline's networks. Raises UserError if they are not understood."""
    if not known(path):
        raise UserError(f"the networks of '{path}' are not known: fetch it, and give its folder")
    if path in KNOWN:
        return KNOWN[path]
    fetch_teacher(path)
    names = [name for name in ("text_encoder", "text_encoder_2") if (Path(path) / name).is_dir()]
    read = {
        name: json.loads((Path(path) / name / "config.json").read_text(encoding="utf-8"))
        for name in ("unet", "vae", *names)
    }
    return {"unet": read["unet"], "vae": read["vae"], "text": [read[name] for name in names]}


def scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion."""
    return DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def _device(idle: bool) -> str:
    return "meta" if idle else "cpu"
