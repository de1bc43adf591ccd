"""Every setting, declared once: its name, type, range, default and unit, and one line of help.

The configuration (`study.config`), the options of the scripts, and the trainings themselves take these models, so
that a new setting is declared here, used where it acts, and given a value in a scale. It imports no torch.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diffusion2gan.errors import UserError, nearest

Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Size = Annotated[int, Field(ge=0)]  # 0 stands for none, or for all there are
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Loss = Literal["mse", "pseudo_huber", "lpips", "latent_lpips", "e_latent_lpips"]
Ensemble = Literal["b", "bg", "bgc", "bgco"]  # b: blit, g: geometry, c: colour, o: cutout
Space = Literal["pixel", "latent"]
Solver = Literal["ddim", "dpm-solver", "heun"]
Spacing = Literal["own", "leading", "linspace", "trailing"]  # own: the pipeline's
ResizeFilter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
PictureMetric = Literal[
    "fid", "kid", "precision", "recall", "fid_second", "kid_second", "clip_score", "dreamsim", "dreamdiv"
]
SpeedMetric = Literal["steps", "params_billion", "inference_seconds"]  # of the model itself
CostMetric = Literal[  # of how a run was made
    "images_per_second",
    "batch_size",
    "device_days",
    "nfe_million",
    "nfe_forward_million",
    "nfe_backward_million",
]
METRICS, SPEED, COST = get_args(PictureMetric), get_args(SpeedMetric), get_args(CostMetric)


@dataclass(frozen=True)
class OnlyIf:
    """Marks a setting that is read only where the setting `name` has this `value`; elsewhere it is left out."""

    name: str
    value: object


class SettingsModel(BaseModel):
    """Frozen settings. A wrong, unknown or missing one is a UserError of one line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(explain(error, type(self))) from error

    __init__.__pydantic_base_init__ = True  # within another model it is not called: that one explains, with the place

    def said(self) -> dict:
        """The settings that were given a value, as plain values."""
        return self.model_dump(mode="json", exclude_unset=True)

    def used(self) -> dict:
        """The settings that are read, as plain values: those whose `OnlyIf` is not met are left out."""
        conditions = {
            name: [mark for mark in field.metadata if isinstance(mark, OnlyIf)]
            for name, field in type(self).model_fields.items()
        }
        values = self.model_dump(mode="json")
        return {
            name: value
            for name, value in values.items()
            if all(getattr(self, mark.name) == mark.value for mark in conditions[name])
        }


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line that says which setting is wrong, and what would be right."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # a misspelt one is also missing
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{name}', {nearest(name, model.model_fields)}"
    if first["type"] == "missing":
        return f"the setting '{name}' is missing"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{name} {wrong(first)}"


def wrong(error: dict) -> str:
    """What is wrong with one value, an entry of `ValidationError.errors()`: "is 'x', it must be a whole number"."""
    value, kind = error["input"], KINDS.get(error["type"].split("_")[0])
    if error["type"] == "literal_error":
        return f"is '{value}', {nearest(str(value), re.findall(QUOTED, error['ctx']['expected']))}"
    if error["type"] == "value_error":
        return f"is {value!r}: {error['ctx']['error']}"
    if kind and error["type"].endswith(("_type", "_parsing", "_from_float")):
        return f"is {value!r}, it must be {kind}"
    return f"is {value!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


QUOTED = r"'([^']*)'"
KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a word",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}


class Fitting(SettingsModel):
    """How a batch is made to fit the machines. It changes no result by more than rounding."""

    accumulation: Count = Field(1, description="micro-batches of each process in a step")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    shard: bool = Field(False, description="shard weights, gradients and optimizer states among the processes (FSDP)")


class DistillationSettings(SettingsModel):
    """What every stage has. The paper states none of the optimizer's settings."""

    loss: Loss = Field(description="regression loss d of Eq. 1")
    ensemble: Annotated[Ensemble, OnlyIf("loss", "e_latent_lpips")] = Field(
        "bgco",
        description="transforms of E-LatentLPIPS. b: blit, g: geometry, c: colour, o: cutout",  # ours
    )
    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(description="samples of a step, in all processes and micro-batches together")
    learning_rate: Positive = Field(1e-5, description="of the student's AdamW")  # ours
    warmup: int = Field(0, ge=0, description="steps in which the learning rate rises linearly")  # ours
    ema_decay: Fraction = Field(0.999, description="of the moving average of the student's weights; 0: none")  # ours
    autocast: bool = Field(False, description="run the networks in bfloat16")
    seed: Seed = Field(0, description="of the order of the data and of everything random in a step")


class RegressionSettings(DistillationSettings):
    """Distillation by the regression loss alone (Sec. 3.1 and 3.2, Eq. 1 and 4)."""


class GANSettings(DistillationSettings):
    """Regression and adversarial loss together (Sec. 3.3). Only R1's interval of 16 is the paper's."""

    discriminator: Literal["diffusion", "gigagan"] = Field("diffusion", description="architecture of D")
    d_learning_rate: Positive = Field(1e-5, description="of D's AdamW")  # ours
    lambda_gan: float = Field(0.1, ge=0, description="weight of the GAN loss beside the regression loss")  # ours
    z_conditioning: bool = Field(False, description="D sees the noise z")
    multi_scale: bool = Field(False, description="D takes resized latents and gives logits at every scale")
    r1: bool = Field(False, description="penalise D's gradient on a single real sample")
    r1_gamma: Annotated[float, OnlyIf("r1", True)] = Field(1.0, ge=0, description="weight γ of R1")  # ours
    r1_every: Annotated[Count, OnlyIf("r1", True)] = Field(16, description="steps from one R1 penalty to the next")
    mix_and_match: bool = Field(False, description="replace some of D's fakes by mismatched triples")
    mix_fraction_latent: Annotated[Fraction, OnlyIf("mix_and_match", True)] = Field(
        0.25,
        description="share of D's fakes that are an unrelated target latent",  # ours
    )
    mix_fraction_text: Annotated[Fraction, OnlyIf("mix_and_match", True)] = Field(
        0.25,
        description="share of D's fakes that are a target latent with an unrelated text",  # ours
    )
    mix_fraction_noise: Annotated[Fraction, OnlyIf("mix_and_match", True)] = Field(
        0.25,
        description="share of D's fakes that are a target latent with another noise",  # ours
    )

    @model_validator(mode="after")
    def _check(self) -> "GANSettings":
        if self.discriminator == "gigagan" and (self.z_conditioning or self.multi_scale):
            raise ValueError(
                "the gigagan discriminator never sees z and is always multi-scale: leave z_conditioning and "
                "multi_scale to the diffusion discriminator"
            )
        if self.mix_and_match:
            fractions = self.mix_fraction_latent, self.mix_fraction_text, self.mix_fraction_noise
            if sum(fractions) > 1:
                raise ValueError(
                    f"mix_fraction_latent, mix_fraction_text and mix_fraction_noise are {fractions}: choose fractions "
                    "that sum to at most 1"
                )
            if self.mix_fraction_noise and not self.z_conditioning:
                raise ValueError(
                    "a discriminator that does not see z cannot tell noise that was substituted: set z_conditioning: "
                    "true or mix_fraction_noise: 0"
                )
        return self


class ConsistencySettings(DistillationSettings):
    """Consistency Distillation (Song et al. 2023), the baseline of Table 6."""

    noise_levels: int = Field(18, ge=2, description="N: noise levels σ of the teacher's ODE")
    target_decay: Fraction = Field(0.0, description="μ: decay of the target network; 0: it is the student itself")


class Seeded(SettingsModel):
    """Settings of anything random."""

    seed: Seed = Field(0, description="of everything random")


class VGGSettings(SettingsModel):
    """Training of the VGG that LPIPS sees through, on ImageNet's task in pixels or latents."""

    classes: Count = Field(description="labels to tell apart")
    width: Positive = Field(0.25, description="channels, as a multiple of VGG-16's")
    size: Count = Field(64, description="side of a picture in pixels; latents keep theirs")
    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(description="samples of a step, in all processes together")
    learning_rate: Positive = Field(description="of AdamW")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW")  # ours
    label_smoothing: Fraction = Field(0.0, description="share of a label that all classes divide")  # ours
    warmup: Size = Field(200, description="steps in which the learning rate rises linearly")  # ours
    validation_count: Count = Field(2000, description="pictures that the accuracy is measured on; latents: all")  # ours
    workers: Size = Field(0, description="processes that read pictures; 0: the training itself")
    autocast: bool = Field(False, description="run the network in bfloat16")


class CalibrationSettings(SettingsModel):
    """Calibration of LPIPS on judgements of similarity (Zhang et al. 2018)."""

    count: Count = Field(5000, description="judgements to learn from")
    held_out: Count = Field(2000, description="judgements to measure on")
    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(50, description="judgements of a step")
    learning_rate: Positive = Field(1e-4, description="of Adam")


class LossTimingSettings(SettingsModel):
    """Figure 2: time and memory of a step of each perceptual loss."""

    batch_size: Count = Field(4, description="latents of a step")
    repeats: Several = Field(10, description="measured calls, of which the median is taken")
    autocast: bool = Field(False, description="run the losses in bfloat16")  # ours


class ReconstructionSettings(SettingsModel):
    """Figure 3: latents found again by gradient descent on a loss."""

    pictures: Count = Field(2, description="pictures to find again")
    seeds: Count = Field(3, description="starts from noise for each picture")  # ours
    iterations: Count = Field(description="steps of the descent")
    learning_rate: Positive = Field(description="of Adam")
    log_every: Count = Field(100, description="steps from one point of the curves to the next")


class PromptFilter(SettingsModel):
    """Which captions of a table are taken for prompts."""

    caption_column: str | None = Field(None, description="name of the captions' column; none: the known ones")
    score_column: str | None = Field(None, description="name of the aesthetic score's column; none: the known ones")
    min_score: float | None = Field(None, description="lowest aesthetic score; none: any")
    shortest: Count = Field(1, description="characters of the shortest caption")
    longest: Count = Field(1000, description="characters of the longest caption; CLIP reads 77 tokens")  # ours


class SolvingSettings(SettingsModel):
    """How the teacher's ODE is solved for pairs (Sec. 3.1)."""

    solver: Solver = Field("ddim", description="of the ODE, without added noise")
    spacing: Spacing = Field("own", description="of the steps in time")
    steps: Count = Field(description="of the solver")
    guidance: float = Field(ge=1, description="classifier-free guidance scale; 1: none")
    batch_size: Count = Field(description="pairs solved at once")


class SamplingSettings(SettingsModel):
    """What a picture depends on besides its caption and its noise."""

    model: str = Field(description="a student, a teacher or a published pipeline: a folder or a hub id")
    scheduler: Literal["student", Solver, "own", "euler", "lcm", "rectified-flow"] = Field(
        "student",
        description="student: its own single step; ddim, dpm-solver, heun: a teacher's; "
        "own, euler, lcm, rectified-flow: a published pipeline's",
    )
    steps: Count = Field(1, description="of the scheduler")
    guidance: float = Field(0.0, ge=0, description="classifier-free guidance scale; up to 1: none")
    spacing: Spacing = Field("own", description="of the steps in time")
    timesteps: list[Size] = Field([], description="of a published pipeline, in place of steps")
    prediction: Literal["own", "epsilon", "v_prediction", "sample"] = Field(
        "own", description="what a published U-Net predicts, if not what its scheduler says"
    )
    unet: str = Field("", description="other weights for a published U-Net: a file, or REPOSITORY/FILE on the hub")
    resolution: Size = Field(0, description="side of a published pipeline's pictures in pixels; 0: its own")


class FeatureSettings(SettingsModel):
    """The networks that the metrics see through."""

    features: Literal["efficientnet-lite0", "inception"] = Field("inception", description="of FID, KID, precision")
    second_features: Literal["clip", "dinov2"] = Field("dinov2", description="of a second FID and KID")  # ours
    feature_side: Count = Field(224, description="side in pixels that pictures are resized to for the features")
    clip: str = Field("ViT-g-14/laion2b_s12b_b42k", description="of the CLIP score: MODEL/WEIGHTS of open_clip")  # ours
    clip_prefix: str = Field("", description="words before every caption")  # ours
    dreamsim: str = Field("ensemble", description="DreamSim's network, or a CLIP that stands in for it")  # ours
    resamples: Several = Field(100, description="resamples of the pictures, for the intervals")  # ours


class ScoringSettings(FeatureSettings, Seeded):
    """What is measured of a folder of pictures."""

    metrics: list[PictureMetric] = Field(["fid", "clip_score", "precision", "recall"], description="of the pictures")
    resolution: Count = Field(256, description="side in pixels that pictures are resized to first")
    resize_filter: ResizeFilter = Field("lanczos", description="of that resizing")
    time: bool = Field(False, description="sample once more, to say how long a picture takes")


class ToySettings(Seeded):
    """Training of a small network that the small scales start from. Every value is ours."""

    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(description="samples of a step")
    learning_rate: Positive = Field(description="of AdamW")


class ToyVAESettings(ToySettings):
    """The codec: pictures to latents and back."""

    autocast: bool = Field(False, description="run the networks in bfloat16")


class ToyTeacherSettings(ToySettings):
    """A latent diffusion model of captioned scenes."""

    scenes: Count = Field(description="different pictures to learn from")


class ToyEDMSettings(ToyTeacherSettings):
    """A diffusion model in pixels."""

    images: str = Field(description="openmoji, or CIFAR-10's archive")
