"""The teacher, a diffusers text-to-image pipeline: encode text and images, solve its ODE, decode latents.

The pipeline is Stable Diffusion 1.x, 2.x or XL, from a folder or the hub. Latents are always scaled, by the
`scaling_factor` and the statistics of the autoencoder, so that noise and latents have comparable variance.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from diffusion2gan.configurations import check_spacing, fetch_teacher, process
from diffusion2gan.pipelines import KINDS, load_pipeline
from diffusion2gan.pixel.model import PixelTeacher, is_pixel_model
from diffusion2gan.settings import VAE_PIXELS

# a student has a DDIM scheduler whose single step ends at x₀
SOLVERS = {"ddim": DDIMScheduler, "dpm-solver": DPMSolverMultistepScheduler, "student": DDIMScheduler}


class Teacher:
    """A frozen text-to-image diffusion pipeline on one device: a folder, a hub id, or a loaded pipeline.

    Raises UserError if there is no such pipeline, if it is of another kind, or if its configuration is not understood.
    """

    def __init__(
        self, path: str | DiffusionPipeline, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ):
        loaded = isinstance(path, DiffusionPipeline)
        self.pipeline = path if loaded else _load_pipeline(str(path), dtype).to(device)
        self.device, self.path = torch.device(device), str(path)
        self.unet, self.vae, self.scheduler = self.pipeline.unet, self.pipeline.vae, self.pipeline.scheduler
        self.text_encoder = self.pipeline.text_encoder
        self.is_xl = isinstance(self.pipeline, StableDiffusionXLPipeline)
        if self.is_xl and self.vae.config.force_upcast:
            self.vae.float()  # SDXL's VAE overflows in half precision
        if self.device.type == "cuda":
            self.unet.to(memory_format=torch.channels_last)  # cuDNN's layout in half precision
        for module in (self.unet, self.vae, *(encoder for _, encoder in self._text_encoders)):
            module.requires_grad_(False).eval()

    def drop_unet(self) -> None:
        """Free the weights of the U-Net, for a training whose networks are copies of it. Its config stays."""
        self.unet.to("meta")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @property
    def downsampling(self) -> int:
        """The pixels of an image along the side of one pixel of a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.latent_shape[-1] * self.downsampling

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        """Encode N captions, each distinct one once; returns conditions with the argument names of G and D.

        `text_embeddings` (N, tokens, width). SDXL concatenates the penultimate layers of its two encoders (Podell et
        al. 2023, Sec. 2.1) and adds the pooled `text_embeds` (N, width') and `time_ids` (N, 6), here those of an
        uncropped image of the pipeline's own size (Sec. 2.2).
        """
        distinct = list(dict.fromkeys(captions))
        number = {caption: i for i, caption in enumerate(distinct)}
        rows = [number[caption] for caption in captions]
        return {name: each[rows] for name, each in self._encode(distinct).items()}

    @cached_property
    def unconditional(self) -> dict[str, torch.Tensor]:
        """Conditions (1, …) without text, for guidance: the empty caption's, or zeros if SDXL's config says so."""
        conditions = self.encode_text([""])
        if self.is_xl and self.pipeline.config.force_zeros_for_empty_prompt:
            for name in ("text_embeddings", "text_embeds"):
                conditions[name] = torch.zeros_like(conditions[name])
        return conditions

    @torch.no_grad()
    def encode_images(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Encode images (N, 3, H, W) in [-1, 1] to scaled latents (N, C, h, w).

        The latents are the mean of the VAE's posterior, or with `noise` (N, C, h, w) a sample of it.
        A call of the VAE takes at most VAE_PIXELS pixels, or a single image.
        """
        pieces = [self.vae.encode(piece.to(self.device, self.vae.dtype)).latent_dist for piece in _pieces(images)]
        latents = torch.cat([posterior.mean for posterior in pieces])
        if noise is not None:
            latents = latents + torch.cat([posterior.std for posterior in pieces]) * noise.to(latents)
        return scale(latents, self.vae)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode scaled latents (N, C, h, w) to images (N, 3, H, W), about [-1, 1]; differentiable.

        A call of the VAE makes at most VAE_PIXELS pixels, or a single image.
        """
        pieces = _pieces(unscale(latents.to(self.vae.dtype), self.vae), self.downsampling)
        return torch.cat([self.vae.decode(piece).sample for piece in pieces])

    @torch.no_grad()
    def solve(
        self,
        z: torch.Tensor,
        captions: Sequence[str],
        steps: int,
        guidance: float,
        solver: str = "ddim",
        spacing: str = "own",
    ) -> torch.Tensor:
        """Solve the ODE from noise z (N, C, h, w) to latents x, by deterministic DDIM (Song et al. 2021, η = 0) or
        DPM-Solver++ (Lu et al. 2022), with classifier-free guidance w = `guidance` (Ho & Salimans 2021).

        `spacing` of the timesteps is the pipeline's `own`, or `leading`, `linspace`, `trailing` (Lin et al. 2024,
        Table 2). With w > 1 the U-Net evaluates both branches in one call; otherwise there is only the conditional one.
        """
        scheduler = self._solver(solver, spacing)
        scheduler.set_timesteps(steps)  # on the CPU, because every step would wait for a timestep on the GPU
        guided = guidance > 1
        conditions = self.encode_text(captions)
        if guided:
            conditions = {
                name: torch.cat([self.unconditional[name].expand_as(each), each]) for name, each in conditions.items()
            }
        text = conditions.pop("text_embeddings")
        x = z.to(self.device, self.unet.dtype) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            inputs = scheduler.scale_model_input(torch.cat([x, x]) if guided else x, t)
            predicted = self.unet(inputs, t, text, added_cond_kwargs=conditions).sample
            if guided:
                unconditional, conditional = predicted.chunk(2)
                predicted = unconditional + guidance * (conditional - unconditional)
            x = scheduler.step(predicted, t, x).prev_sample
        return x

    @property
    def _text_encoders(self) -> list[tuple]:
        """The tokenizers, each with its text encoder."""
        names = ("", "_2") if self.is_xl else ("",)
        return [(getattr(self.pipeline, f"tokenizer{n}"), getattr(self.pipeline, f"text_encoder{n}")) for n in names]

    def _encode(self, captions: list[str]) -> dict[str, torch.Tensor]:
        encoded = []
        for tokenizer, encoder in self._text_encoders:
            length = tokenizer.model_max_length
            tokens = tokenizer(
                captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).input_ids
            encoded.append(encoder(tokens.to(self.device), output_hidden_states=self.is_xl))
        if not self.is_xl:
            return {"text_embeddings": encoded[0][0]}
        size = [self.pipeline.default_sample_size * self.pipeline.vae_scale_factor] * 2
        text = torch.cat([output.hidden_states[-2] for output in encoded], dim=-1)
        time_ids = torch.tensor([[*size, 0, 0, *size]], dtype=text.dtype, device=self.device)
        return {
            "text_embeddings": text,
            "text_embeds": encoded[1].text_embeds,
            "time_ids": time_ids.repeat(len(captions), 1),
        }

    def _solver(self, name: str, spacing: str) -> DDIMScheduler | DPMSolverMultistepScheduler:
        if spacing == "own":
            check_spacing(self.path, self.scheduler)
        settings = process(self.scheduler) | ({} if spacing == "own" else {"timestep_spacing": spacing})
        # DDIM's default clips latents to ±1
        return SOLVERS[name].from_config({"clip_sample": False, **settings})


def scale(raw: torch.Tensor, vae: AutoencoderKL) -> torch.Tensor:
    """The latents (N, C, h, w) of an autoencoder, scaled by its factor and, if it has them, by its statistics."""
    mean, deviation = _statistics(raw, vae)
    return (raw - mean) * vae.config.scaling_factor / deviation


def unscale(latents: torch.Tensor, vae: AutoencoderKL) -> torch.Tensor:
    """The inverse of `scale`, as SDXL's pipeline of diffusers does it."""
    mean, deviation = _statistics(latents, vae)
    return latents * deviation / vae.config.scaling_factor + mean


def _statistics(latents: torch.Tensor, vae: AutoencoderKL) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """The mean and the deviation of each channel (C, 1, 1) of an autoencoder's latents; 0 and 1 if it has none."""
    if vae.config.latents_mean is None:
        return 0.0, 1.0
    mean, deviation = (latents.new_tensor(vae.config[name]) for name in ("latents_mean", "latents_std"))
    return mean[:, None, None], deviation[:, None, None]


def _pieces(batch: torch.Tensor, scale: int = 1) -> tuple[torch.Tensor, ...]:
    """Split a batch (N, C, h, w), whose images are `scale` times as high and as wide, into pieces of VAE_PIXELS."""
    height, width = batch.shape[-2:]
    return batch.split(max(1, VAE_PIXELS // (height * width * scale**2)))


def _load_pipeline(path: str, dtype: torch.dtype) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    fetch_teacher(path)
    return load_pipeline(path, dtype, KINDS)


def load_teacher(
    path: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Teacher | PixelTeacher:
    """Load a teacher, or a student with the same interface, in latent or pixel space; in pixels always as float32."""
    return PixelTeacher(path, device) if is_pixel_model(path) else Teacher(path, device, dtype)
