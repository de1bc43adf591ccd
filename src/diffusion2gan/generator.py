"""The one-step student G(z, c): the teacher's U-Net at one timestep, its prediction turned into x₀ (Sec. 3)."""

import diffusion2gan._torchvision  # noqa: F401

from pathlib import Path

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic_folder
from diffusion2gan.pixel.model import PixelGenerator, is_pixel_model


class Generator(nn.Module):
    """Noise z and text c to a latent x in one evaluation of the U-Net at a fixed timestep.

    The timestep is the last training timestep (999 for Stable Diffusion) unless another is given; # ours
    `scheduler` tells the noise levels and whether the U-Net predicts ε or v. Raises UserError when it
    predicts anything else.
    """

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler, timestep: int | None = None):
        super().__init__()
        self.unet = unet
        self.scheduler = _one_step(scheduler, timestep)
        self.timestep = self.scheduler.config.num_train_timesteps - 1
        self.alpha_bar = self.scheduler.alphas_cumprod[self.timestep].item()
        self.prediction_type = scheduler.config.prediction_type
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise UserError(
                f"the teacher's scheduler has prediction_type '{self.prediction_type}': "
                "choose a teacher that predicts 'epsilon' or 'v_prediction'"
            )

    @classmethod
    def from_teacher(cls, path: str | Path, timestep: int | None = None) -> "Generator":
        """A student with the weights of a pipeline, a folder or a hub id; also reads what `save` wrote.

        Raises UserError when there is no such pipeline.
        """
        try:
            unet = UNet2DConditionModel.from_pretrained(path, subfolder="unet")
            scheduler = DDIMScheduler.from_pretrained(path, subfolder="scheduler")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"no student can start from '{path}', give a diffusers pipeline: {reason}") from error
        return cls(unet, scheduler, timestep)

    def forward(self, z: torch.Tensor, text_embeddings: torch.Tensor, **added: torch.Tensor) -> torch.Tensor:
        """x = G(z, c): scaled latents (N, C, h, w), float32 or wider, from standard normal z (N, C, h, w).

        `text_embeddings` is (N, T, D); SDXL has `text_embeds` and `time_ids` added.
        """
        conditions = {"encoder_hidden_states": text_embeddings, "added_cond_kwargs": added}
        prediction = self.unet(z, self.timestep, **conditions).sample
        # at t = 999 Stable Diffusion's √ᾱ is 0.07, which magnifies what half precision rounds away 15-fold;
        # autocast leaves elementwise arithmetic as wide as it comes
        wide = torch.promote_types(z.dtype, torch.float32)
        return x0(prediction.to(wide), z.to(wide), self.alpha_bar, self.prediction_type)

    def save(self, folder: str | Path, teacher_path: str | Path) -> None:
        """Write a complete diffusers pipeline: this U-Net, a one-step scheduler, and the teacher's other parts.

        Plain diffusers draws with it at `num_inference_steps=1, guidance_scale=0`. All parts are float32, also those
        of a teacher in half precision: transformers would load its text encoder as it is stored, and the U-Net refuse
        its embeddings. An existing folder is replaced only once the new one is complete.
        """
        parts = {"unet": self.unet, "scheduler": self.scheduler}
        pipeline = DiffusionPipeline.from_pretrained(teacher_path, **parts, dtype=torch.float32)
        with atomic_folder(Path(folder)) as temporary:
            pipeline.save_pretrained(temporary)


def x0(prediction: torch.Tensor, z: torch.Tensor, alpha_bar: float, prediction_type: str) -> torch.Tensor:
    """The clean latent that z = √ᾱ x₀ + √(1-ᾱ) ε implies, given the U-Net's ε (Song et al. 2021, Eq. 12)
    or v = √ᾱ ε - √(1-ᾱ) x₀ (Salimans & Ho 2022)."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if prediction_type == "epsilon":
        return (z - noise * prediction) / signal
    return signal * z - noise * prediction


def _one_step(scheduler: DDIMScheduler, timestep: int | None) -> DDIMScheduler:
    """A DDIM scheduler whose single trailing step starts at the timestep and ends exactly at x₀.

    A trailing step starts at the last training timestep; the training timesteps after ours are cut off.
    """
    count = scheduler.config.num_train_timesteps
    settings = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False, "thresholding": False}
    settings["steps_offset"] = 1  # without effect on trailing steps; diffusers warns of any other
    if timestep is not None and timestep != count - 1:
        if not 0 <= timestep < count:
            raise UserError(f"the student's timestep is {timestep}: choose one of the teacher's, 0 to {count - 1}")
        betas = scheduler.betas[: timestep + 1].tolist()
        settings |= {"trained_betas": betas, "num_train_timesteps": len(betas), "rescale_betas_zero_snr": False}
    return DDIMScheduler.from_config(scheduler.config, **settings)


def load_student(path: str | Path) -> Generator | PixelGenerator:
    """The student with the weights of a teacher or of a student, in latents or in pixels."""
    return (PixelGenerator if is_pixel_model(path) else Generator).from_teacher(path)
