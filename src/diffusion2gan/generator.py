"""The student G(z, c): the teacher's U-Net at a fixed timestep, its prediction converted to x₀ (Sec. 3)."""

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn

from diffusion2gan.configurations import PREDICTIONS, fetch_teacher, noise_schedule, process
from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic_folder
from diffusion2gan.pipelines import KINDS, load_network, load_pipeline
from diffusion2gan.pixel.model import PixelGenerator, is_pixel_model


class Generator(nn.Module):
    """Maps noise z and text c to a latent x in one evaluation of the U-Net at a fixed timestep.

    The default timestep is the last training timestep (999 for Stable Diffusion).                          # ours
    `scheduler` gives the noise levels and the prediction type, ε or v. Raises UserError for another prediction type.
    """

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler, timestep: int | None = None):
        super().__init__()
        self.unet = unet
        self.scheduler = _one_step(scheduler, timestep)
        self.timestep = self.scheduler.config.num_train_timesteps - 1
        self.alpha_bar = self.scheduler.alphas_cumprod[self.timestep].item()
        self.prediction_type = scheduler.config.prediction_type
        if self.prediction_type not in PREDICTIONS:
            raise UserError(
                f"the teacher's scheduler has prediction_type '{self.prediction_type}': "
                "choose a teacher that predicts 'epsilon' or 'v_prediction'"
            )

    @classmethod
    def from_teacher(cls, path: str | Path, timestep: int | None = None) -> "Generator":
        """A student with the weights of a teacher or of a saved student: a pipeline from a folder or the hub.

        Raises UserError if there is no such pipeline, or if its configuration is not understood.
        """
        folder = fetch_teacher(path)
        unet = load_network(UNet2DConditionModel, folder / "unet", torch.float32)
        return cls(unet, noise_schedule(folder), timestep)

    def forward(
        self,
        z: torch.Tensor,
        text_embeddings: torch.Tensor,
        timesteps: torch.Tensor | None = None,
        **added: torch.Tensor,
    ) -> torch.Tensor:
        """x = G(z, c): scaled latents (N, C, h, w), float32 or wider, from standard normal z (N, C, h, w).

        If `timesteps` (N,) are given, z are noisy latents at these timesteps, and x is the estimate of the clean ones.
        `text_embeddings` is (N, T, D); SDXL also takes `text_embeds` and `time_ids`.
        """
        conditions = {"encoder_hidden_states": text_embeddings, "added_cond_kwargs": added}
        alpha_bar = self.alpha_bar if timesteps is None else self.alpha_bar_at(timesteps)
        prediction = self.unet(z, self.timestep if timesteps is None else timesteps, **conditions).sample
        # at t = 999 Stable Diffusion's √ᾱ is 0.07, which magnifies rounding errors 15-fold; autocast does not
        # change the precision of elementwise arithmetic
        wide = torch.promote_types(z.dtype, torch.float32)
        return x0(prediction.to(wide), z.to(wide), alpha_bar, self.prediction_type)

    def alpha_bar_at(self, timesteps: torch.Tensor) -> torch.Tensor:
        """ᾱ at timesteps (N,), float32 (N, 1, 1, 1)."""
        return self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1)

    def save(self, folder: str | Path, teacher_path: str | Path) -> None:
        """Save a complete diffusers pipeline: this U-Net, a one-step scheduler, and the other parts of the teacher.

        The parts are those that `Teacher` loads: without a safety checker, which would blacken some images of the
        student that the teacher shows.
        Plain diffusers samples with it at `num_inference_steps=1, guidance_scale=0`. All parts are saved in float32,
        even those of a half-precision teacher: transformers would load a text encoder in its stored precision, which
        the U-Net does not accept. An existing folder is replaced atomically.
        """
        parts = {"unet": self.unet, "scheduler": self.scheduler}
        pipeline = load_pipeline(str(teacher_path), torch.float32, KINDS, **parts)
        with atomic_folder(Path(folder)) as temporary:
            pipeline.save_pretrained(temporary)


def x0(
    prediction: torch.Tensor, z: torch.Tensor, alpha_bar: float | torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """The clean latent x₀ of z = √ᾱ x₀ + √(1-ᾱ) ε, given the predicted ε (Song et al. 2021, Eq. 12) or
    v = √ᾱ ε - √(1-ᾱ) x₀ (Salimans & Ho 2022). ᾱ is a number, or (N, 1, 1, 1)."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if prediction_type == "epsilon":
        return (z - noise * prediction) / signal
    return signal * z - noise * prediction


def _one_step(scheduler: DDIMScheduler, timestep: int | None) -> DDIMScheduler:
    """A DDIM scheduler with a single trailing step from the given timestep to x₀.

    A trailing step starts at the last training timestep, so later training timesteps are removed.
    """
    count = scheduler.config.num_train_timesteps
    settings = process(scheduler) | {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False}
    settings["steps_offset"] = 1  # no effect on trailing steps; diffusers warns about other values
    if timestep is not None and timestep != count - 1:
        if not 0 <= timestep < count:
            raise UserError(f"the student's timestep is {timestep}: choose one of the teacher's, 0 to {count - 1}")
        betas = scheduler.betas[: timestep + 1].tolist()
        settings |= {"trained_betas": betas, "num_train_timesteps": len(betas), "rescale_betas_zero_snr": False}
    return DDIMScheduler(**settings)


def load_student(path: str | Path) -> Generator | PixelGenerator:
    """A student with the weights of a teacher or of a saved student, in latent or pixel space."""
    return (PixelGenerator if is_pixel_model(path) else Generator).from_teacher(path)
