"""What is understood of a teacher's configuration. Other settings would change its ODE, its latents or its conditions.

Settings that a file lacks have the default of their class, as diffusers reads them.
"""

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin, UNet2DConditionModel
from diffusers.schedulers import KarrasDiffusionSchedulers

from diffusion2gan.errors import UserError
from diffusion2gan.pipelines import ERRORS, KINDS, fetch
from diffusion2gan.weights import reason

# schedulers with noise levels of their own at discrete timesteps; EDM's are continuous
SCHEDULERS = {each.name for each in KarrasDiffusionSchedulers} - {"EDMEulerScheduler"}
SCHEDULERS |= {"DDIMParallelScheduler", "DDPMParallelScheduler", "SASolverScheduler"}
PREDICTIONS = ("epsilon", "v_prediction")
SPACINGS = ("leading", "linspace", "trailing")
# steps that a scheduler places otherwise than its `timestep_spacing` says
OTHER_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
# the settings of a scheduler that our solvers take over; the others belong to the solver that it is
PROCESS = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "prediction_type", "timestep_spacing", "steps_offset", "set_alpha_to_one",
)  # fmt: skip
# settings that may have any value, because diffusers builds the layers
UNET_LAYERS = {
    "flip_sin_to_cos", "freq_shift", "only_cross_attention", "block_out_channels", "layers_per_block",
    "downsample_padding", "mid_block_scale_factor", "dropout", "act_fn", "norm_num_groups", "norm_eps",
    "transformer_layers_per_block", "reverse_transformer_layers_per_block", "attention_head_dim",
    "num_attention_heads", "use_linear_projection", "upcast_attention", "resnet_time_scale_shift",
    "resnet_skip_time_act", "resnet_out_scale_factor", "time_embedding_dim", "timestep_post_act", "conv_in_kernel",
    "conv_out_kernel", "mid_block_only_cross_attention", "cross_attention_norm", "addition_embed_type_num_heads",
    "addition_time_embed_dim",
}  # fmt: skip
VAE_LAYERS = {
    "down_block_types", "up_block_types", "block_out_channels", "layers_per_block", "act_fn", "latent_channels",
    "norm_num_groups", "sample_size", "force_upcast", "use_quant_conv", "use_post_quant_conv",
    "mid_block_add_attention",
}  # fmt: skip
BLOCKS = {
    "down_block_types": {"DownBlock2D", "CrossAttnDownBlock2D"},
    "mid_block_type": {None, "UNetMidBlock2D", "UNetMidBlock2DCrossAttn"},
    "up_block_types": {"UpBlock2D", "CrossAttnUpBlock2D"},
}
SIZES = 6  # of SDXL's `time_ids`; its refiner has 5
ENCODERS = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
TEXT = {"hidden_size": 512, "projection_dim": 512}  # transformers' defaults for CLIP
SMALLEST = 1e-6  # ᾱ of the last timestep from which ε tells nothing about x₀                              # ours


def fetch_teacher(path: str | Path) -> Path:
    """The folder of a teacher or student, fetched from the hub if it is not one.

    Raises UserError that names the first setting of its configuration that is not understood.
    """
    folder, index = fetch(str(path), KINDS)
    try:
        _check(path, folder, index)
    except (TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"the configuration of '{path}' is damaged ({reason(error)}): fetch it again") from error
    return folder


def _check(path: str | Path, folder: Path, index: dict) -> None:
    """Raise UserError that names the first setting that is not understood."""
    is_xl = index["_class_name"] == "StableDiffusionXLPipeline"
    if index.get("requires_aesthetics_score"):
        raise UserError(
            f"'{path}' is SDXL's refiner, which starts from images: choose a teacher that starts from noise"
        )
    noise_schedule(folder)
    vae = _settings(AutoencoderKL, folder, "vae")
    _check_vae(path, vae, is_xl)
    _check_unet(path, _settings(UNet2DConditionModel, folder, "unet"), vae, _text_widths(path, folder, index, is_xl))


def noise_schedule(folder: Path) -> DDIMScheduler:
    """The noise levels and the prediction type of the scheduler in a pipeline's folder, whatever its solver is.

    Raises UserError if it is not a discrete process like Stable Diffusion's, or if it changes the solution of the ODE.
    """
    index = fetch(str(folder), KINDS)[1]
    library, name = index.get("scheduler") or (None, None)
    if library != "diffusers" or name not in SCHEDULERS:
        raise UserError(
            f"'{folder}' has the scheduler {name}, whose ODE is not solved here: choose a teacher with discrete noise "
            "levels as Stable Diffusion has, such as those of DDIMScheduler"
        )
    scheduler = _read(getattr(diffusers, name).from_pretrained, folder, "scheduler")
    config = scheduler.config
    # Stable Diffusion's pipeline switches off clipping by itself
    clipped = config.get("clip_sample", False) and index["_class_name"] == "StableDiffusionXLPipeline"
    understood = {
        "prediction_type": config.get("prediction_type", PREDICTIONS[0]) in PREDICTIONS,
        "timestep_spacing": config.get("timestep_spacing", SPACINGS[0]) in SPACINGS,
        "timestep_type": config.get("timestep_type", "discrete") == "discrete",
        "thresholding": not config.get("thresholding"),
        "clip_sample": not clipped,
        "use_flow_sigmas": not config.get("use_flow_sigmas"),
    }
    for setting, right in understood.items():
        _demand(right, folder, "scheduler", setting, config.get(setting))
    try:
        ours = DDIMScheduler(**process(scheduler), clip_sample=False)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UserError(f"'{folder}' has a scheduler with unknown noise levels: {reason(error)}") from error
    if not same_levels(ours, scheduler):
        raise UserError(f"'{folder}' has a {name} with other noise levels than DDIMScheduler: choose another teacher")
    if ours.alphas_cumprod[-1] < SMALLEST and ours.config.prediction_type == "epsilon":
        raise UserError(
            f"'{folder}' predicts epsilon where its scheduler leaves no signal (rescale_betas_zero_snr), which tells "
            "nothing about the image: choose a teacher that predicts v there"
        )
    return ours


def same_levels(first: SchedulerMixin, second: SchedulerMixin) -> bool:
    """Whether two schedulers have the same noise levels at the same discrete timesteps."""
    levels, others = (getattr(each, "alphas_cumprod", None) for each in (first, second))
    if levels is None or others is None or levels.shape != others.shape:
        return False
    return torch.allclose(levels, others, atol=1e-5)


def process(scheduler: SchedulerMixin) -> dict:
    """The settings of a scheduler that say which ODE is solved and where its steps are, not those of its solver."""
    return {name: scheduler.config[name] for name in PROCESS if name in scheduler.config}


def check_spacing(path: str, scheduler: SchedulerMixin) -> None:
    """Raise UserError if a scheduler places its steps in a way that our solvers do not have."""
    for name in OTHER_SPACINGS:
        if scheduler.config.get(name):
            raise UserError(
                f"'{path}' spaces its steps by {name}, which the solvers here do not have: set the spacing to "
                f"{', '.join(SPACINGS[:-1])} or {SPACINGS[-1]}"
            )


def _check_vae(path: str | Path, vae: dict, is_xl: bool) -> None:
    default = _defaults(AutoencoderKL)
    channels, statistics = vae["latent_channels"], [vae["latents_mean"], vae["latents_std"]]
    # only SDXL's pipeline reads the statistics, of four channels
    known = statistics == [None, None] or (
        is_xl and all(isinstance(each, list | tuple) and len(each) == channels == 4 for each in statistics)
    )
    if known and statistics != [None, None]:
        known = all(map(_is_number, statistics[0])) and all(_is_number(each) and each > 0 for each in statistics[1])
    for name, value in vae.items():
        if name in ("latents_mean", "latents_std"):
            _demand(known, path, "vae", name, value)
        elif name == "scaling_factor":
            _demand(_is_number(value) and value > 0, path, "vae", name, value)
        elif name not in VAE_LAYERS:
            _demand(value == default[name] or not (value or default[name]), path, "vae", name, value)


def _check_unet(path: str | Path, unet: dict, vae: dict, widths: list[int]) -> None:
    """`widths` are those of the texts: of the tokens, and for SDXL that of the pooled text."""
    wanted = _defaults(UNet2DConditionModel) | {"cross_attention_dim": widths[0]}
    wanted |= {"in_channels": vae["latent_channels"], "out_channels": vae["latent_channels"]}
    if len(widths) > 1:
        pooled = SIZES * (unet["addition_time_embed_dim"] or 0) + widths[1]
        wanted |= {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": pooled}
    for name, value in unet.items():
        if name == "sample_size":
            _demand(type(value) is int and value > 0, path, "unet", name, value, "the side of a square latent")
        elif name in BLOCKS:
            blocks = value if isinstance(value, list | tuple) else [value]
            _demand(set(blocks) <= BLOCKS[name], path, "unet", name, value)
        elif name not in UNET_LAYERS:
            _demand(value == wanted[name] or not (value or wanted[name]), path, "unet", name, value, wanted[name])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text_widths(path: str | Path, folder: Path, index: dict, is_xl: bool) -> list[int]:
    """The width of the token embeddings, and for SDXL that of the pooled text."""
    configs = []
    for name, kind in list(ENCODERS.items())[: 1 + is_xl]:
        _, found = index.get(name) or (None, None)
        if found != kind:
            raise UserError(f"'{path}' has {found or 'nothing'} as its {name}: choose a teacher with a {kind}")
        configs.append(TEXT | _read(_text_settings, folder, name))
    return [sum(each["hidden_size"] for each in configs), *(each["projection_dim"] for each in configs[1:])]


def _text_settings(folder: Path, subfolder: str) -> dict:
    """The settings of a text encoder, also in those of a whole CLIP; the student does without transformers."""
    settings = json.loads((folder / subfolder / "config.json").read_text(encoding="utf-8"))
    return settings.get("text_config", settings)


def _settings(kind: type, folder: Path, part: str) -> dict:
    """The settings of a part, with the defaults of its class."""
    default, given = _defaults(kind), _read(kind.load_config, folder, part)
    return default | {name: value for name, value in given.items() if name in default}


def _defaults(kind: type) -> dict:
    return {name: each.default for name, each in inspect.signature(kind.__init__).parameters.items() if name != "self"}


def _read(read: Callable, folder: Path, part: str):
    try:
        return read(folder, subfolder=part)
    except ERRORS as error:
        raise UserError(f"'{folder}' has no configuration of its {part} that can be read: {reason(error)}") from error


def _demand(right: bool, path: str | Path, part: str, name: str, value: object, wanted: object = ...) -> None:
    if not right:
        instead = "which is not understood here" if wanted is ... else f"where {wanted} is needed"
        raise UserError(f"the {part} of '{path}' has {name}: {value}, {instead}: choose another teacher")
