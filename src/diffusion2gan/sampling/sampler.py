"""How a row of a table draws its pictures: a teacher with its solver, a student in one step, a peer as published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

from diffusion2gan.sampling.baselines import Peer
from diffusion2gan.seeds import noise
from diffusion2gan.study.cli import option
from diffusion2gan.teacher import SOLVERS, load_teacher


@dataclass(kw_only=True)
class Drawing:
    """What a picture depends on besides its caption and its noise; the options of `sample.py`."""

    model: str = option(help="a student, a teacher or a published pipeline: a folder or a hub id")
    scheduler: str = option(
        default="student",
        help="student: its own single step; ddim, dpm-solver, heun: a teacher's; own, euler, lcm, rectified-flow: "
        "a published pipeline's",
    )
    steps: int = option(default=1, help="of the scheduler")
    guidance: float = option(default=0.0, help="classifier-free; up to 1 is none")
    spacing: str = option(default="own", help="of the steps: leading, linspace, trailing, or the pipeline's own")
    timesteps: list[int] = option(default_factory=list, help="of a published pipeline, in place of steps")
    prediction: str = option(default="own", help="what a published U-Net predicts, if not what its scheduler says")
    unet: str = option(default="", help="other weights for a published U-Net: a file, or REPOSITORY/FILE on the hub")
    resolution: int = option(default=0, help="pixels of a published pipeline's pictures; 0 is its own")

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
