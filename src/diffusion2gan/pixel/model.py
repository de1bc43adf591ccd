"""Teacher and one-step student of Table 6, in pixel space and without text.

They have the interfaces of `teacher.py` and `generator.py`; the networks are EDM's, and a latent is the image itself.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic_folder, read_json
from diffusion2gan.pipelines import load_network
from diffusion2gan.pixel.edm import EDM, SIGMA_MAX
from diffusion2gan.pixel.heun import heun


class PixelTeacher:
    """A frozen EDM denoiser on one device with the interface of `Teacher`, always float32 like EDM's CIFAR-10 model.

    `path` is its folder, or the network itself. Raises UserError if the folder does not hold an EDM network.
    """

    def __init__(self, path: str | EDM, device: torch.device | str = "cpu"):
        unet = path if isinstance(path, EDM) else load_edm(path).to(device)
        self.unet = unet.requires_grad_(False).eval()
        self.device, self.path = torch.device(device), str(path)

    def drop_unet(self) -> None:
        """Free the weights of the network, for a training whose student is a copy of it. Its config stays."""
        self.unet.to("meta")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.unet.config.sample_size

    def encode_text(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        """No conditions, because the model has no text."""
        return {}

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W), unchanged."""
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
        """Solve the ODE from standard normal z (N, C, s, s) by Heun's method (`heun`), or in one step (`student`).

        Returns images (N, C, s, s), about [-1, 1]. Raises UserError for another solver, and for guidance, which needs
        text.
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
    """The student G(z) = f(80 z, 80): EDM's denoiser, or a consistency function, evaluated once at σ = 80."""

    def __init__(self, unet: EDM):
        super().__init__()
        self.unet = unet

    @classmethod
    def from_teacher(cls, path: str | Path, boundary: float | None = None) -> "PixelGenerator":
        """A student with the weights of a folder; with a noise level `boundary` it is a consistency function."""
        unet = load_edm(path)
        if boundary is not None:
            unet.register_to_config(boundary=boundary)
        return cls(unet)

    def forward(self, z: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        """Images G(z) (N, C, s, s) from standard normal z; if noise levels σ (N,) are given, f(z, σ) for noisy z."""
        return self.unet(SIGMA_MAX * z, SIGMA_MAX) if sigma is None else self.unet(z, sigma)

    def save(self, folder: str | Path, teacher_path: str | Path) -> None:
        """Save the network for `EDM.from_pretrained`; an existing folder is replaced atomically."""
        with atomic_folder(Path(folder)) as temporary:
            self.unet.save_pretrained(temporary)


def is_pixel_model(path: str | Path) -> bool:
    """Whether a folder holds an EDM network."""
    file = Path(path) / "config.json"
    return file.is_file() and read_json(file).get("_class_name") == "EDM"


def load_edm(path: str | Path) -> EDM:
    """Load the network of a folder, which adopt_edm.py makes, in float32. Raises UserError for any other folder."""
    if not is_pixel_model(path):
        raise UserError(f"'{path}' is not the folder of an EDM network: make one with adopt_edm.py")
    return load_network(EDM, Path(path), torch.float32)
