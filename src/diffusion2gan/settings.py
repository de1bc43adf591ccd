"""Every setting, declared once: its name, type, range, default and unit, and one line of help.

The configuration (`study.config`), the scripts and the trainings all use these models. To add a setting, declare it
here, use it in the code, and give it a value in a scale. This module does not import torch, because every job of the
workflow reads it.
"""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, NonNegativeInt, model_validator

from diffusion2gan.choices import PRESET, RESAMPLING, Preset, Resampling
from diffusion2gan.validation import Location, OnlyIf, SettingsModel


def _not_one(pairs: int) -> int:
    if pairs == 1:
        raise ValueError("one held-out pair has no variance to compare the error with: hold out 0 or at least 2")
    return pairs


Count = Annotated[int, Field(ge=1)]
HeldOut = Annotated[NonNegativeInt, AfterValidator(_not_one)]
Several = Annotated[int, Field(ge=2)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Space = Literal["pixel", "latent"]
RegressionLoss = Literal["l1", "mse", "pseudo_huber", "lpips", "latent_lpips", "e_latent_lpips"]
Solver = Literal["ddim", "dpm-solver", "heun"]
Spacing = Literal["own", "leading", "linspace", "trailing"]  # own: as the pipeline's scheduler says
PipelineScheduler = Literal["own", "euler", "lcm", "rectified-flow"]  # of a published pipeline
Decay = Literal["constant", "cosine", "linear", "steps"]  # of a learning rate: diffusion2gan.training.loop.Schedule
Tracker = Literal["none", "tensorboard", "wandb"]
Guidance = Annotated[float, Field(ge=1, description="classifier-free guidance scale; 1: none")]
LPIPSSide = Annotated[
    int, Field(ge=0, description="side in pixels that images are resized to before LPIPS; 0: not resized")
]
ResizeFilter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
FeatureNetwork = Literal["efficientnet-lite0", "inception", "inception-legacy"]
PictureMetric = Literal[
    "fid", "kid", "precision", "recall", "fid_second", "kid_second", "clip_score", "dreamsim", "dreamdiv"
]
SpeedMetric = Literal["steps", "params_billion", "inference_seconds"]  # of sampling with a model
CostMetric = Literal[  # of training a run
    "images_per_second",
    "batch_size",
    "passes",
    "train_error",
    "held_out_error",
    "device_days",
    "nfe_million",
    "nfe_forward_million",
    "nfe_backward_million",
    "nfe_total_million",
]
METRICS, SPEED, COST = get_args(PictureMetric), get_args(SpeedMetric), get_args(CostMetric)
ENCODED = 64  # images or judgements that are encoded together
VAE_PIXELS = 2**21  # in one call of the VAE: 8 images of 512², 2 of 1024²; larger batches are split            # ours


class Fitting(SettingsModel):
    """How a training runs on its machines. These settings change results only by rounding errors."""

    accumulation: Count = Field(1, description="micro-batches of each process per step")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    shard: bool = Field(False, description="shard weights, gradients and optimizer states in each node (FSDP)")
    compile: bool = Field(False, description="compile the student's U-Net (torch.compile)")
    checkpoint_minutes: Positive = Field(15, description="minutes from one checkpoint to the next")  # ours


class Watching(SettingsModel):
    """How a training is watched. It does not change results."""

    report_to: Tracker = Field("none", description="where histories and sample grids also go: tensorboard or wandb")


class LossSettings(SettingsModel):
    """The regression loss."""

    loss: RegressionLoss = Field(description="regression loss d of Eq. 1")
    ensemble: Annotated[Preset, OnlyIf("loss", "e_latent_lpips")] = Field(
        PRESET,
        description="transforms of E-LatentLPIPS. b: blit, g: geometry, c: colour, o: cutout",
    )
    resampling: Annotated[Resampling, OnlyIf("loss", "e_latent_lpips")] = Field(
        RESAMPLING, description="how E-LatentLPIPS resamples moved latents; wavelet: as in the authors' package"
    )
    draws: Annotated[Count, OnlyIf("loss", "e_latent_lpips")] = Field(
        1, description="transforms of E-LatentLPIPS that are averaged for each sample and step"
    )


class DistillationSettings(LossSettings):
    """Settings of every training stage. The paper does not state the optimizer's settings."""

    has_other_losses: ClassVar[bool] = False  # so that it can do without the regression loss
    only_loss: ClassVar[tuple[str, str] | None] = None  # the one loss that a stage takes, and why

    loss: Literal[RegressionLoss, "none"] = Field(description="regression loss d of Eq. 1; none: only other losses")
    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(description="samples per step, over all processes and micro-batches")
    learning_rate: Positive = Field(1e-5, description="learning rate of the student's optimizer")  # ours
    warmup: NonNegativeInt = Field(0, description="steps of a linear rise of the learning rate; 0: none")  # ours
    decay: Decay = Field("constant", description="schedule of the learning rates after the warm-up")  # ours
    ema_decay: Fraction = Field(0.999, description="decay of the student's averaged weights; 0: no average")  # ours
    autocast: bool = Field(False, description="run the networks in bfloat16")
    seed: Seed = Field(0, description="seed of the data order and of everything random in a step")

    @model_validator(mode="after")
    def _check_loss(self) -> "DistillationSettings":
        needed, why = self.only_loss or (self.loss, "")
        if self.loss == "none" and not self.has_other_losses:
            raise ValueError("this stage needs a regression loss: choose one instead of none")
        if self.loss != needed:
            raise ValueError(f"{why}: set loss: {needed} instead of {self.loss}")
        return self


class RegressionSettings(DistillationSettings):
    """Distillation by the regression loss alone (Sec. 3.1 and 3.2, Eq. 1 and 4)."""


class GANSettings(DistillationSettings):
    """Regression and adversarial loss together (Sec. 3.3). The paper states only `r1_every` = 16."""

    has_other_losses = True

    from_scratch: bool = Field(
        False, description="G has random weights and fresh noise, as GigaGAN; needs `loss: none`"
    )
    discriminator: Literal["diffusion", "gigagan"] = Field("diffusion", description="architecture of D")
    d_learning_rate: Positive = Field(1e-5, description="learning rate of D's AdamW")  # ours
    lambda_gan: float = Field(0.1, ge=0, description="weight of the GAN loss beside any regression loss")  # ours
    z_conditioning: bool = Field(False, description="D sees the noise z")
    multi_scale: bool = Field(False, description="D takes resized latents and predicts logits at every scale")
    r1: bool = Field(False, description="penalise D's gradient on a single real sample")
    r1_gamma: Annotated[float, OnlyIf("r1", True)] = Field(
        1e-4,
        ge=0,
        description="weight γ of R1, the penalty on the gradient of the sum of all logits",  # ours
    )
    r1_every: Annotated[Count, OnlyIf("r1", True)] = Field(16, description="steps from one R1 penalty to the next")
    mix_and_match: bool = Field(False, description="replace some of D's fakes by mismatched triples")
    mix_fraction_latent: Annotated[Fraction, OnlyIf("mix_and_match", True)] = Field(
        0.08,
        description="share of D's fakes that are an unrelated target latent",  # ours
    )
    mix_fraction_text: Annotated[Fraction, OnlyIf("mix_and_match", True)] = Field(
        0.08,
        description="share of D's fakes that are a target latent with an unrelated text",  # ours
    )
    mix_fraction_noise: Annotated[Fraction, OnlyIf("mix_and_match", True)] = Field(
        0.08,
        description="share of D's fakes that are a target latent with another noise",  # ours
    )

    @model_validator(mode="after")
    def _check(self) -> "GANSettings":
        if self.discriminator == "gigagan" and (self.z_conditioning or self.multi_scale):
            raise ValueError(
                "the gigagan discriminator never sees z and is always multi-scale: set z_conditioning and "
                "multi_scale only for the diffusion discriminator"
            )
        if self.loss == "none" and not self.lambda_gan:
            raise ValueError("without a regression loss, lambda_gan must be above 0")
        if self.from_scratch and (self.discriminator, self.loss) != ("gigagan", "none"):
            raise ValueError(
                "a GAN from scratch learns neither from a teacher nor from the noise of pairs: set "
                "discriminator: gigagan and loss: none, or from_scratch: false"
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
                    "a discriminator that does not see z cannot detect substituted noise: set z_conditioning: true or "
                    "mix_fraction_noise: 0"
                )
        return self


class DMDSettings(DistillationSettings):
    """Distribution Matching Distillation (Yin et al. 2024), a baseline of Table 3. The values are theirs."""

    has_other_losses = True

    fake_learning_rate: Positive = Field(1e-5, description="learning rate of the fake denoiser's AdamW")
    lambda_regression: Positive = Field(0.25, description="weight of the regression loss, if there is one")
    guidance: Guidance = 3.0


class DMD2Settings(DistillationSettings):
    """DMD2 (Yin et al. 2024b), beyond the paper. The values are theirs for Stable Diffusion 1.5."""

    has_other_losses = True
    only_loss = "none", "DMD2 has no regression loss"

    fake_learning_rate: Positive = Field(1e-5, description="learning rate of the fake denoiser's AdamW")
    fake_updates: Count = Field(5, description="updates of the fake denoiser for each of the student")
    lambda_adversarial: float = Field(1e-3, ge=0, description="weight of the student's GAN loss")
    lambda_head: float = Field(1e-2, ge=0, description="weight of D's loss beside the fake denoiser's")
    guidance: Guidance = 1.75


class ProgressiveSettings(DistillationSettings):
    """Progressive distillation (Salimans & Ho 2022; Meng et al. 2023), a baseline of Table 4."""

    only_loss = "mse", "progressive distillation weighs squared errors"

    steps: Count = Field(description="N: steps in which the student samples")
    substeps: Count = Field(2, description="steps of the previous network that one step of the student replaces")
    guidance: Guidance = 1.0

    @model_validator(mode="after")
    def _check(self) -> "ProgressiveSettings":
        if self.substeps == 1 and self.guidance == 1:
            raise ValueError("one substep without guidance changes nothing: set substeps: 2, or guidance above 1")
        return self


class LCMSettings(DistillationSettings):
    """A latent consistency model (Luo et al. 2023), beyond the paper."""

    noise_levels: Several = Field(50, description="N: number of noise levels of the teacher's ODE")
    # as in the example of diffusers
    target_decay: Fraction = Field(0.95, description="μ: decay of the target network; 0: the target is the student")
    guidance: Guidance = 3.0


class UFOGenSettings(DistillationSettings):
    """UFOGen (Xu et al. 2024), a baseline of Tables 3 and 4."""

    d_learning_rate: Positive = Field(1e-5, description="learning rate of D's AdamW")  # ours
    lambda_reconstruction: float = Field(1.0, ge=0, description="weight of the reconstruction loss")  # ours
    noise_levels: Several = Field(4, description="number of noise levels; the student samples from the first")


class ADDSettings(DistillationSettings):
    """Adversarial Diffusion Distillation (Sauer et al. 2023), ADD-M of Table 4 and SDXL-Turbo of Table 5."""

    only_loss = "mse", "ADD weighs squared errors"

    d_learning_rate: Positive = Field(1e-5, description="learning rate of D's AdamW")  # ours
    lambda_gan: float = Field(1.0, ge=0, description="weight of the adversarial loss")
    lambda_distillation: float = Field(2.5, ge=0, description="weight of the distance to the teacher's estimate")
    r1_gamma_features: float = Field(1e-5, ge=0, description="weight γ of R1 on the features that D sees")
    noise_levels: Several = Field(4, description="number of noise levels; the student samples from the first")
    guidance: Guidance = 3.0  # ours: they do not state the teacher's

    @model_validator(mode="after")
    def _check(self) -> "ADDSettings":
        if not (self.lambda_gan or self.lambda_distillation):
            raise ValueError("lambda_gan and lambda_distillation are both 0: give one of them a weight")
        return self


class LightningSettings(DistillationSettings):
    """SDXL-Lightning (Lin et al. 2024), a baseline of Table 5: progressive distillation with a discriminator."""

    has_other_losses = True
    only_loss = "none", "SDXL-Lightning has the loss of D alone"

    steps: Count = Field(description="N: steps in which the student samples")
    substeps: Count = Field(2, description="steps of the previous network that one step of the student replaces")
    d_learning_rate: Positive = Field(1e-5, description="learning rate of D's AdamW")  # ours
    conditional_share: Fraction = Field(0.64, description="share of the iterations in which D sees x_t, too")  # ours


class ReflowSettings(DistillationSettings):
    """ReFlow, the first half of InstaFlow (Liu et al. 2024)."""

    only_loss = "mse", "ReFlow averages velocities by squared errors"


class InstaFlowSettings(DistillationSettings):
    """InstaFlow (Liu et al. 2024), a baseline of Tables 3, 4 and 7: a rectified flow distilled into one step."""

    flow_steps: Several = Field(25, description="steps of Euler's method that solve the rectified flow")  # ours


class ConsistencySettings(DistillationSettings):
    """Consistency Distillation (Song et al. 2023), the baseline of Table 6."""

    noise_levels: Several = Field(18, description="N: number of noise levels σ of the teacher's ODE")
    target_decay: Fraction = Field(0.0, description="μ: decay of the target network; 0: the target is the student")
    random_flip: bool = Field(False, description="mirror every image with probability 1/2")


class Seeded(SettingsModel):
    """Settings with a seed."""

    seed: Seed = Field(0, description="seed of everything random")


class VGGSettings(SettingsModel):
    """Training of LPIPS's VGG to classify labelled images, in pixels or in latents."""

    classes: Count = Field(description="number of classes")
    width: Positive = Field(0.25, description="channels, as a multiple of VGG-16's")
    size: Count = Field(64, description="side of the images in pixels; latents are not resized")
    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(description="samples per step, over all processes")
    learning_rate: Positive = Field(0.1, description="learning rate of gradient descent with momentum")  # ours
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")  # ours
    label_smoothing: Fraction = Field(0.0, description="share of the label spread over all classes")  # ours
    warmup: NonNegativeInt = Field(200, description="steps of a linear rise of the learning rate; 0: none")  # ours
    validation_count: Count = Field(2000, description="number of validation images; latents are all used")  # ours
    workers: NonNegativeInt = Field(0, description="processes that read images; 0: the training process")
    autocast: bool = Field(False, description="run the network in bfloat16")


class CalibrationSettings(SettingsModel):
    """Calibration of LPIPS on judgements of similarity (Zhang et al. 2018)."""

    count: Count = Field(5000, description="number of training judgements")
    held_out: Count = Field(2000, description="number of held-out judgements to evaluate on")
    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(50, description="judgements per step")  # as in LPIPS
    learning_rate: Positive = Field(1e-4, description="learning rate of Adam")  # as in LPIPS


class LossTimingSettings(SettingsModel):
    """Figure 2: time and memory of a step of each perceptual loss."""

    batch_size: Count = Field(4, description="latents per step")
    repeats: Several = Field(10, description="number of measured calls; the median is reported")
    autocast: bool = Field(False, description="run the losses in bfloat16")  # ours


class ReconstructionSettings(SettingsModel):
    """Figure 3: latents reconstructed from noise by gradient descent on a loss."""

    pictures: Count = Field(2, description="number of images to reconstruct")
    seeds: Count = Field(3, description="number of starting points (noise) for each image")  # ours
    iterations: Count = Field(description="steps of gradient descent")
    learning_rate: Positive = Field(description="learning rate of Adam")
    log_every: Count = Field(100, description="steps between two points of the curves")
    decoded: Count = Field(6, description="number of latents that LPIPS decodes at once")  # ours


class PromptFilter(SettingsModel):
    """Which captions of a source become prompts."""

    caption_column: str | None = Field(None, description="column with the captions; none: try the known names")
    score_column: str | None = Field(None, description="column with the aesthetic score; none: try the known names")
    min_score: float | None = Field(None, description="lowest aesthetic score; none: no limit")
    shortest: Count = Field(1, description="shortest caption, in characters")
    longest: Count = Field(1000, description="longest caption, in characters; CLIP reads 77 tokens")  # ours


class SolvingSettings(SettingsModel):
    """How the teacher's ODE is solved for pairs (Sec. 3.1)."""

    solver: Solver = Field("ddim", description="solver of the ODE, without added noise")
    spacing: Spacing = Field("own", description="spacing of the timesteps")
    steps: Count = Field(description="steps of the solver")
    guidance: Guidance
    batch_size: Count = Field(description="pairs solved at once")


class SamplingSettings(SettingsModel):
    """Everything that an image depends on besides its caption and its noise."""

    model: Location = Field(description="a student, a teacher or a published pipeline: a folder or a hub id")
    scheduler: Literal["student", Solver, PipelineScheduler] = Field(
        "student",
        description="student: the steps of a student; ddim, dpm-solver, heun: a solver of a teacher; "
        "own, euler, lcm, rectified-flow: a scheduler of a published pipeline",
    )
    steps: Count = Field(1, description="steps of the scheduler")
    guidance: float = Field(0.0, ge=0, description="classifier-free guidance scale; 1 or less: none")
    spacing: Spacing = Field("own", description="spacing of the timesteps")
    timesteps: list[NonNegativeInt] = Field([], description="timesteps of a published pipeline, instead of steps")
    prediction: Literal["own", "epsilon", "v_prediction", "sample"] = Field(
        "own", description="what a published U-Net predicts; own: as its scheduler says"
    )
    unet: Location = Field("", description="other weights for a published U-Net: a file, or REPOSITORY/FILE on the hub")
    resolution: NonNegativeInt = Field(0, description="side of a published pipeline's images in pixels; 0: its default")


class Sampled(SettingsModel):
    """How many images are sampled at once."""

    batch_size: Count = Field(16, description="images sampled at once")  # ours


class Resizing(SettingsModel):
    """How images are resized before they are compared."""

    resolution: Count = Field(description="side in pixels at which images are compared")
    resize_filter: ResizeFilter = Field("lanczos", description="filter of that resizing")


class CLIPSettings(SettingsModel):
    """The CLIP network of the CLIP score."""

    clip: Location = Field("ViT-g-14/laion2b_s12b_b42k", description="CLIP network: MODEL/WEIGHTS of open_clip")  # ours
    clip_prefix: str = Field("", description="text put before every caption")  # ours


class FeatureSettings(CLIPSettings):
    """The networks that the metrics use."""

    features: FeatureNetwork = Field("inception", description="network for FID, KID, precision and recall")
    # ours: training with LPIPS can lower an Inception FID directly
    second_features: Literal["clip", "dinov2"] = Field("dinov2", description="network for a second FID and KID")
    feature_side: Count = Field(224, description="side in pixels of the images that these networks see")
    # ours: the package's default
    dreamsim: Location = Field("ensemble", description="DreamSim's network, or a CLIP that replaces it")
    resamples: Several = Field(100, description="number of bootstrap resamples for the intervals")  # ours


class ScoringSettings(FeatureSettings, Resizing, Seeded):
    """How a folder of images is measured."""

    metrics: list[PictureMetric] = Field(["fid", "clip_score", "precision", "recall"], description="what to measure")
    time: bool = Field(False, description="sample one image several times, to measure the time")


class ToySettings(Seeded):
    """Training of a small network for the small scales. All values are ours."""

    iterations: Count = Field(description="training steps")
    batch_size: Count = Field(description="samples per step")
    learning_rate: Positive = Field(description="highest learning rate of AdamW")
    warmup: NonNegativeInt = Field(200, description="steps of a linear rise of the learning rate, before a cosine to 0")
    ema_decay: Fraction = Field(0.999, description="decay of the averaged weights; 0: no average")


class ToySceneSettings(ToySettings):
    """A network that learns from scenes: the VAE, or a teacher."""

    scenes: Count = Field(description="number of different training images")


class ToyEDMSettings(ToySceneSettings):
    """A diffusion model in pixels."""

    images: Location = Field(description="openmoji, or the archive of CIFAR-10")
