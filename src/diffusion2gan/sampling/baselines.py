"""The baselines: published text-to-image pipelines that the paper compares with, used as their authors describe.

A baseline is a StableDiffusion, StableDiffusionXL, PixArtAlpha or LatentConsistencyModel pipeline of diffusers. What
its authors change (weights of the U-Net, scheduler) is set in the model's config entry.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler, LCMScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from huggingface_hub import hf_hub_download

from diffusion2gan.configurations import same_levels
from diffusion2gan.errors import UserError
from diffusion2gan.pipelines import KINDS, load_pipeline
from diffusion2gan.seeds import noise
from diffusion2gan.weights import fill, read_tensors, reason


class RectifiedFlow(SchedulerMixin, ConfigMixin):
    """Euler steps along InstaFlow's straight paths from noise at t = 1000 to data (Liu et al. 2024, Eq. 3).

    The U-Net predicts the velocity v from noise to data; a single step gives x = z + v(z).
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000):
        self.timesteps = torch.tensor([])

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        self.step_size = 1 / num_inference_steps
        times = torch.arange(num_inference_steps) * self.step_size
        self.timesteps = ((1 - times) * self.config.num_train_timesteps).to(device)

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor | None = None) -> torch.Tensor:
        return sample

    def step(self, model_output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, return_dict: bool = True):
        moved = sample + self.step_size * model_output
        return SchedulerOutput(prev_sample=moved) if return_dict else (moved,)


SCHEDULERS = {"own": None, "euler": EulerDiscreteScheduler, "lcm": LCMScheduler, "rectified-flow": RectifiedFlow}
PIPELINES = {**KINDS, "LatentConsistencyModelPipeline": KINDS["StableDiffusionPipeline"], "PixArtAlphaPipeline": {}}
# the caption unchanged, at the requested size
CALLS = {"PixArtAlphaPipeline": {"clean_caption": False, "use_resolution_binning": False}}


class Baseline:
    """A pipeline from a folder or the hub, on one device, that samples with `steps` steps and `guidance`.

    `unet` gives other weights for the U-Net: a file, or REPOSITORY/FILE on the hub. `scheduler` is the pipeline's
    `own` or another of SCHEDULERS; `spacing` of its timesteps and the `prediction` type of the U-Net are the
    pipeline's own by default. `timesteps`, if given, replace `steps`. `resolution` is in pixels; 0 means the
    pipeline's own. Raises UserError if anything cannot be loaded or does not fit.
    """

    def __init__(
        self, path: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, *,
        steps: int, guidance: float, unet: str = "", scheduler: str = "own", spacing: str = "own",
        prediction: str = "own", timesteps: Sequence[int] = (), resolution: int = 0,
    ):  # fmt: skip
        if scheduler not in SCHEDULERS:
            raise UserError(f"no scheduler '{scheduler}' for {path}: use one of {', '.join(SCHEDULERS)}")
        # InstaFlow's pipeline is Stable Diffusion's with another name and scheduler
        self.kind = "StableDiffusionPipeline" if scheduler == "rectified-flow" else None
        self.pipeline: DiffusionPipeline = load_pipeline(path, dtype, PIPELINES, self.kind)
        self.kind = self.kind or type(self.pipeline).__name__
        if unet:
            _load_weights(self.pipeline.unet, unet)
        changed = {"timestep_spacing": spacing, "prediction_type": prediction}
        changed = {name: value for name, value in changed.items() if value != "own"}
        if scheduler != "own" or changed:
            self.pipeline.scheduler = _changed(self.pipeline.scheduler, SCHEDULERS[scheduler], changed, path)
        self.pipeline.to(device).set_progress_bar_config(disable=True)
        self.pipeline.vae.enable_slicing()  # 16 images of 1024² decoded at once need 48 GiB
        self.resolution = resolution
        self.call = {"guidance_scale": guidance, "output_type": "pt", **CALLS.get(self.kind, {})}
        self.call |= {"timesteps": list(timesteps)} if timesteps else {"num_inference_steps": steps}
        if resolution:
            self.call |= {"height": resolution, "width": resolution}

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that is evaluated at every step."""
        return self.pipeline.transformer if hasattr(self.pipeline, "transformer") else self.pipeline.unet

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the noise."""
        config = self.denoiser.config
        side = self.resolution // self.pipeline.vae_scale_factor if self.resolution else config.sample_size
        return config.in_channels, side, side

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], captions: Sequence[str]) -> torch.Tensor:
        """Images (N, 3, H, W) in [-1, 1]; each depends on its caption and its seed only."""
        z = noise(seeds, self.latent_shape).to(self.pipeline.device, self.denoiser.dtype)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]  # for schedulers that add noise
        return self.pipeline(list(captions), latents=z, generator=generators, **self.call).images * 2 - 1


def _changed(own: SchedulerMixin, kind: type | None, changed: dict[str, str], path: str) -> SchedulerMixin:
    """A scheduler of another kind, or with changed settings. Raises UserError if it would ignore one of them, or if
    its noise levels are not those of the pipeline's own."""
    kind = kind or type(own)
    for name in changed:
        if name not in inspect.signature(kind.__init__).parameters:
            raise UserError(
                f"the {kind.__name__} of {path} has no {name}: leave out the setting, or change the scheduler"
            )
    made = kind.from_config(own.config, **changed)
    if kind is not RectifiedFlow and kind is not type(own) and not same_levels(own, made):
        raise UserError(
            f"{path} was trained for the noise levels of its {type(own).__name__}, which {kind.__name__} does not "
            "have: leave its scheduler as it is"
        )
    return made


def _load_weights(module: torch.nn.Module, source: str) -> None:
    """Load the weights of a module from a file; only tensors are read from it."""
    path = Path(source)
    try:
        if not path.is_file():
            owner, name, file = source.split("/", 2)
            path = Path(hf_hub_download(f"{owner}/{name}", file))
    except (OSError, ValueError) as error:
        raise UserError(
            f"the weights '{source}' cannot be found ({reason(error)}): give a file, or REPOSITORY/FILE on the hub; "
            "without a network fetch it beforehand with `hf download`"
        ) from error
    fill(module, read_tensors(path)[0], source)
