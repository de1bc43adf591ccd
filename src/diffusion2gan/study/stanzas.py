"""The stanzas of the configuration as typed objects: teachers, data sets, runs, models, benchmarks, tables, figures.

They hold names and sizes only; `diffusion2gan.study.study` knows how they belong together.
"""

from dataclasses import dataclass, field

SPEED = ("steps", "params_billion", "inference_seconds")  # metrics of the model itself, not of its pictures
COST = (  # metrics of how a run was made
    "images_per_second",
    "batch_size",
    "device_days",
    "nfe_million",
    "nfe_forward_million",
    "nfe_backward_million",
)


@dataclass(frozen=True)
class Teacher:
    """A multi-step diffusion model: a diffusers folder or hub id, None where the scale has none.

    `latent` is (channels, height, width) of what its pairs hold, `weights` counts those of the `unet` and the `others`.
    """

    name: str
    space: str
    solver: str
    path: str | None
    steps: dict[str, int]
    latent: list[int]
    weights: dict[str, int]
    spacing: str = "own"
    training: dict | None = None  # of one that the workflow itself trains, as small scales do
    pickle: str | None = None  # the official checkpoint that the workflow makes it of, as of EDM
    lpips_side: int = 0  # pixels that its pictures are resized to before LPIPS; 0: as they are

    @property
    def made(self) -> bool:
        """Whether the workflow makes its files."""
        return self.training is not None or self.pickle is not None


@dataclass(frozen=True)
class Dataset:
    """Pairs of one teacher at one guidance; a data set that is `part_of` another is the first of its pairs."""

    name: str
    teacher: str
    guidance: float
    prompts: str
    pairs: int
    shards: int
    part_of: str | None = None


@dataclass(frozen=True)
class Batch:
    """The size of a training batch, the machines it is trained on, and how it is made to fit them."""

    size: int
    nodes: int = 1
    gpus: int = 0  # of each node
    accumulation: int = 1  # micro-batches of each GPU
    gradient_checkpointing: bool = False
    shard: bool = False

    @property
    def fitting(self) -> dict:
        """The options of the training script that move no result."""
        return {name: getattr(self, name) for name in ("accumulation", "gradient_checkpointing", "shard")}


@dataclass(frozen=True)
class Run:
    """One student to train. What only the gan stage has is None in a regression.

    Consistency Distillation has no `dataset` of pairs, but a `teacher`, and the `images` of a benchmark.
    """

    name: str
    stage: str
    loss: str
    ensemble: str
    dataset: str | None
    batch: Batch
    iterations: int
    discriminator: str
    z_conditioning: bool
    r1: bool
    r1_every: int
    multi_scale: bool
    mix_and_match: bool
    seed: int
    learning_rate: float
    warmup: int
    ema_decay: float
    autocast: bool
    init: str | None = None
    d_learning_rate: float | None = None
    lambda_gan: float | None = None
    r1_gamma: float | None = None
    mix_fraction_latent: float | None = None
    mix_fraction_text: float | None = None
    mix_fraction_noise: float | None = None
    teacher: str | None = None
    images: str | None = None
    noise_levels: int | None = None
    target_decay: float | None = None

    @property
    def options(self) -> dict:
        """The options of its training script, only those that it reads: no other setting can retrain it."""
        names = ["loss", "iterations", "learning_rate", "warmup", "ema_decay", "autocast", "seed"]
        if self.loss == "e_latent_lpips":
            names += ["ensemble"]
        if self.stage == "gan":
            names += ["discriminator", "d_learning_rate", "lambda_gan"]
            names += ["z_conditioning", "r1", "multi_scale", "mix_and_match"]
            names += ["r1_gamma", "r1_every"] if self.r1 else []
            names += [f"mix_fraction_{part}" for part in ("latent", "text", "noise")] if self.mix_and_match else []
        if self.stage == "consistency":
            names += ["noise_levels", "target_decay"]
        return {"batch_size": self.batch.size} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Model:
    """A row that is no run: a teacher drawn with some solver, a published pipeline, or numbers only the paper reports.

    Of a published pipeline the scale names the files, `pipeline` and `unet`; without them its row holds reported
    numbers only, or is left out where it stands in for another's, `stand_in_for`.
    """

    name: str
    teacher: str | None = None
    solver: str | None = None
    guidance: float | None = None
    steps: int | None = None  # of a teacher: other than its scale's
    pipeline: str | None = None
    unet: str | None = None
    scheduler: str | None = None
    spacing: str = "own"
    prediction: str = "own"
    timesteps: list[int] = field(default_factory=list)
    resolution: int | None = None
    stand_in_for: str | None = None
    reported_only: bool = False

    @property
    def measured(self) -> bool:
        """Whether there is anything to draw with."""
        return self.teacher is not None or self.pipeline is not None


@dataclass(frozen=True)
class Benchmark:
    """Prompts with reference pictures; `source` is None where the scale has none.

    One without captions says how many pictures to compare with, `references`.
    """

    name: str
    source: str | None
    pictures: int
    resolution: int
    resize_filter: str
    references: int | None = None


@dataclass(frozen=True)
class Table:
    """Rows (runs and models), all measured on one benchmark."""

    name: str
    benchmark: str
    metrics: list[str]
    rows: list[str]
    teacher: str | None = None  # the row that DreamSim compares with


@dataclass(frozen=True)
class Figure:
    """Columns (runs and models, with their titles) of pictures of one benchmark."""

    name: str
    benchmark: str
    pictures: int
    columns: dict[str, str]

    @property
    def rows(self) -> list[str]:
        return list(self.columns)


@dataclass(frozen=True)
class HumanStudy:
    """Figure 6: rows and those that each is compared with, by pictures of `prompts` prompts of one benchmark.

    `answers` is the folder of what people answered.
    """

    benchmark: str
    comparisons: dict[str, list[str]]
    prompts: int
    answers: str

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(row, other) for row, others in self.comparisons.items() for other in others]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for pair in self.pairs for row in pair))
