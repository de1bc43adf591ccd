"""How a row of a table draws its pictures: a teacher with its solver, a student in one step, a peer as published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch

from diffusion2gan.noise import noise
from diffusion2gan.peers import Peer
from diffusion2gan.teacher import SOLVERS, load_teacher


@dataclass(kw_only=True)
class Drawing:
    """What a picture depends on besides its caption and its noise; the options of `sample.py`."""

    model: str
    unet: str = ""
    scheduler: str = "student"
    spacing: str = "own"
    prediction: str = "own"
    timesteps: list[int] = field(default_factory=list)
    steps: int = 1
    guidance: float = 0.0
    resolution: int = 0

    @classmethod
    def of(cls, recipe: dict) -> "Drawing":
        """The drawing that a `sample.json` says."""
        return cls(**{each.name: recipe[each.name] for each in fields(cls) if each.name in recipe})

    def precision(self, device: torch.device) -> torch.dtype:
        """One step turns ε into x₀, which amplifies rounding fifteenfold: it is never in half precision.

        Nor is EDM, whose last noise levels are finer than that.
        """
        half = device.type == "cuda" and self.steps > 1 and self.scheduler != "heun"
        return torch.float16 if half else torch.float32

    def load(
        self, device: torch.device
    ) -> tuple[Callable[[Sequence[int], Sequence[str]], torch.Tensor], torch.nn.Module]:
        """`draw(seeds, captions)` → images (N, 3, H, W), about [-1, 1]; and the network that every step evaluates.

        Raises UserError when there is no such model.
        """
        dtype = self.precision(device)
        if self.scheduler not in (*SOLVERS, "heun"):
            how = {name: value for name, value in vars(self).items() if name in _HOW}
            peer = Peer(self.model, device, dtype, **how)
            return peer.draw, peer.denoiser
        teacher = load_teacher(self.model, device, dtype)

        @torch.no_grad()
        def draw(seeds: Sequence[int], captions: Sequence[str]) -> torch.Tensor:
            z = noise(seeds, teacher.latent_shape)
            return teacher.decode(teacher.solve(z, captions, self.steps, self.guidance, self.scheduler, self.spacing))

        return draw, teacher.unet


_HOW = {each.name for each in fields(Drawing)} - {"model"}
