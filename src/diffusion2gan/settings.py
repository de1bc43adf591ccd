"""Every setting, declared once: its name, type, range, default and unit, and one line of help.

The configuration (`study.config`), the options of the scripts, and the trainings themselves take these models, so
that a new setting is declared here, used where it acts, and given a value in a scale. It imports no torch.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diffusion2gan.errors import UserError, nearest

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


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
    return f"{name} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


class Fitting(SettingsModel):
    """How a batch is made to fit the machines. It changes no result by more than rounding."""

    accumulation: Count = Field(1, description="micro-batches of each process in a step")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    shard: bool = Field(False, description="shard weights, gradients and optimizer states among the processes (FSDP)")


class DistillationSettings(SettingsModel):
    """What every stage has. The paper states none of the optimizer's settings."""

    loss: Literal["mse", "pseudo_huber", "lpips", "latent_lpips", "e_latent_lpips"] = Field(
        description="regression loss d of Eq. 1"
    )
    ensemble: Annotated[Literal["b", "bg", "bgc", "bgco"], OnlyIf("loss", "e_latent_lpips")] = Field(
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
