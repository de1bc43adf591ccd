"""A diffusers text-to-image pipeline as the teacher: encode, decode, and solve its ODE.

The pipeline is a folder or a hub id with the parts of Stable Diffusion 1.x or 2.x. Latents are always
scaled (`scaling_factor`), so that noise and latent have comparable variance.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import logging
from transformers.utils import logging as transformers_logging

from diffusion2gan.errors import UserError

# a student's own scheduler is a DDIM that takes its one step to x₀
SOLVERS = {"ddim": DDIMScheduler, "dpm-solver": DPMSolverMultistepScheduler, "student": DDIMScheduler}


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal z (N, *shape), float32: row i is drawn from `seeds[i]` alone.

    NumPy's PCG64 and ziggurat: unlike torch's, their bits depend on neither device nor vector unit.
    """
    rows = [np.random.default_rng(int(seed)).standard_normal(shape, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


class Teacher:
    """The frozen parts of a text-to-image diffusion pipeline on one device.

    Raises UserError when there is no such pipeline, or one of another kind.
    """

    def __init__(self, path: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        self.pipeline = _load(path, dtype).to(device)
        self.device, self.path = torch.device(device), str(path)
        self.unet, self.vae = self.pipeline.unet, self.pipeline.vae
        self.text_encoder, self.tokenizer = self.pipeline.text_encoder, self.pipeline.tokenizer
        self.scheduler = self.pipeline.scheduler
        for module in (self.unet, self.vae, self.text_encoder):
            module.requires_grad_(False).eval()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str]) -> torch.Tensor:
        """Text embeddings (N, tokens, width); a caption that occurs twice is encoded once."""
        distinct = list(dict.fromkeys(captions))
        tokens = self.tokenizer(
            distinct,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        embeddings = self.text_encoder(tokens.input_ids.to(self.device))[0]
        row = {caption: i for i, caption in enumerate(distinct)}
        return embeddings[[row[caption] for caption in captions]]

    @torch.no_grad()
    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [-1, 1] → scaled latents, the posterior's mode."""
        images = images.to(self.device, self.vae.dtype)
        return self.vae.encode(images).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents → images (N, 3, H, W), about [-1, 1]; differentiable in the latents."""
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample

    @torch.no_grad()
    def solve(
        self, z: torch.Tensor, captions: Sequence[str], steps: int, guidance: float, solver: str = "ddim"
    ) -> torch.Tensor:
        """The ODE's solution x from noise z (N, C, h, w): deterministic DDIM (Song et al. 2021, η = 0)
        or DPM-Solver++ (Lu et al. 2022), with classifier-free guidance w = `guidance` (Ho & Salimans 2021).

        Both branches of the guidance go through the U-Net in one call; at w ≤ 1 there is one branch.
        """
        scheduler = SOLVERS[solver].from_config(self.scheduler.config)
        scheduler.set_timesteps(steps, device=self.device)
        guided = guidance > 1
        text = self.encode_text(captions)
        if guided:
            text = torch.cat([self.encode_text([""]).expand_as(text), text])
        x = z.to(self.device, self.unet.dtype) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            inputs = scheduler.scale_model_input(torch.cat([x, x]) if guided else x, t)
            predicted = self.unet(inputs, t, text).sample
            if guided:
                unconditional, conditional = predicted.chunk(2)
                predicted = unconditional + guidance * (conditional - unconditional)
            x = scheduler.step(predicted, t, x).prev_sample
        return x


def _load(path: str, dtype: torch.dtype) -> StableDiffusionPipeline:
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        return StableDiffusionPipeline.from_pretrained(
            path, dtype=dtype, safety_checker=None, requires_safety_checker=False
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        kind = "folder" if Path(path).exists() else "hub id, or folder (there is none)"
        reason = str(error).splitlines()[0]
        raise UserError(f"'{path}' is not the {kind} of a Stable Diffusion 1.x or 2.x pipeline: {reason}") from error
