"""The teacher and the one-step student of Table 6, in pixels and without text, as `teacher.py` and `generator.py`
have them in latents: the networks are EDM's, a latent is the picture itself."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic_folder
from diffusion2gan.pixel.edm import EDM, SIGMA_MAX
from diffusion2gan.pixel.heun import heun


class PixelTeacher:
    """A frozen EDM denoiser on one device, with what a `Teacher` offers; it stays in float32, as EDM's CIFAR-10 does.

    Raises UserError when the folder does not hold one.
    """

    def __init__(self, path: str, device: torch.device | str = "cpu"):
        self.unet = read(path).to(device).requires_grad_(False).eval()
        self.device, self.path = torch.device(device), str(path)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @property
    def picture_side(self) -> int:
        """Height and width of a picture in pixels."""
        return self.unet.config.sample_size

    def encode_text(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        """No conditions: the model takes no text."""
        return {}

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The pictures (N, 3, H, W) themselves."""
        return latents

    @torch.no_grad()
    def solve(
        self,
        z: torch.Tensor,
        captions: Sequence[str],
        steps: int,
        guidance: float = 1.0,
        solver: str = "heun",
        spacing: str = "own",
    ) -> torch.Tensor:
        """The ODE's solution x from noise z (N, C, s, s) by Heun's method, or a `student`'s one step.

        Raises UserError for another solver, and for guidance, which needs text.
        """
        if solver not in ("heun", "student") or guidance > 1:
            raise UserError(
                f"'{self.path}' makes pixels without text: solve it with heun and no guidance, not with '{solver}' "
                f"and {guidance:g}"
            )
        z = z.to(self.device)
        if solver == "student":
            return PixelGenerator(self.unet)(z)
        return heun(self.unet, z, steps).float()


class PixelGenerator(nn.Module):
    """The student G(z) = f(80 z, 80): one evaluation of EDM's denoiser, or of a consistency function, at σ = 80."""

    def __init__(self, unet: EDM):
        super().__init__()
        self.unet = unet

    @classmethod
    def from_teacher(cls, path: str | Path, boundary: float | None = None) -> "PixelGenerator":
        """A student with the weights of a folder; with a `boundary`, as a consistency function of that ε."""
        unet = read(path)
        if boundary is not None:
            unet.register_to_config(boundary=boundary)
        return cls(unet)

    def forward(self, z: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        """x = G(z): pictures (N, C, s, s) from standard normal z; with levels σ (N,), f(z, σ) of noisy pictures z."""
        return self.unet(SIGMA_MAX * z, SIGMA_MAX) if sigma is None else self.unet(z, sigma)

    def save(self, folder: str | Path, teacher_path: str | Path) -> None:
        """Write the network as `EDM.from_pretrained` reads it; an existing folder is replaced by a complete one."""
        with atomic_folder(Path(folder)) as temporary:
            self.unet.save_pretrained(temporary)


def is_pixel_model(path: str | Path) -> bool:
    """Whether a folder holds an EDM network."""
    file = Path(path) / "config.json"
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("_class_name") == "EDM"


def read(path: str | Path) -> EDM:
    """The network in a folder. Raises UserError when it is none, or one of another kind."""
    try:
        return EDM.from_pretrained(path, torch_dtype=torch.float32)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"'{path}' is not the folder of an EDM network ({reason}): make one with adopt_edm.py"
        ) from error
