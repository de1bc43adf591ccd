"""The entries of the configuration: teachers, datasets, runs, models, benchmarks, tables, figures, sizes.

They hold names and settings. `diffusion2gan.study.study` resolves the names.
"""

import os
import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PrivateAttr,
    create_model,
    model_validator,
)

from diffusion2gan.settings import (
    ADDSettings,
    CalibrationSettings,
    ConsistencySettings,
    CostMetric,
    Count,
    DMD2Settings,
    DMDSettings,
    FeatureNetwork,
    FeatureSettings,
    Fitting,
    GANSettings,
    Guidance,
    HeldOut,
    InstaFlowSettings,
    LCMSettings,
    LightningSettings,
    LossSettings,
    LossTimingSettings,
    LPIPSSide,
    PictureMetric,
    PipelineScheduler,
    Positive,
    ProgressiveSettings,
    PromptFilter,
    ReconstructionSettings,
    ReflowSettings,
    RegressionSettings,
    Resizing,
    Sampled,
    SamplingSettings,
    Seed,
    Several,
    Solver,
    SolvingSettings,
    Space,
    Spacing,
    SpeedMetric,
    ToyEDMSettings,
    ToySceneSettings,
    ToySettings,
    UFOGenSettings,
    VGGSettings,
    Watching,
)
from diffusion2gan.validation import Location, SettingsModel

STAGES = {
    "regression": RegressionSettings,
    "gan": GANSettings,
    "dmd": DMDSettings,
    "dmd2": DMD2Settings,
    "progressive": ProgressiveSettings,
    "ufogen": UFOGenSettings,
    "lcm": LCMSettings,
    "add": ADDSettings,
    "lightning": LightningSettings,
    "reflow": ReflowSettings,
    "instaflow": InstaFlowSettings,
    "consistency": ConsistencySettings,
}


def _plain(path: str) -> str:
    if wrong := re.search(r"[^\w./+@=:,%~-]", path):
        raise ValueError(f"this path may not contain {ascii(wrong[0])}: choose another, or make a link to it")
    if path.startswith("-") or "://" in path:
        raise ValueError("this is no path of a file or folder: choose another")
    return os.path.normpath(path)


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("each may appear only once")
    return values


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Place = Annotated[Location, Field(min_length=1)]
Plain = Annotated[Place, AfterValidator(_plain)]  # some commands name it without quotes
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(_distinct)]
Metrics = Annotated[
    list[Literal[PictureMetric, SpeedMetric, CostMetric]], Field(min_length=1), AfterValidator(_distinct)
]


def optional(*models: type[BaseModel], without: tuple[str, ...] = ()) -> type[BaseModel]:
    """A model with the settings of other models, all optional, for an entry that overrides some of them."""
    fields = {name: field for model in models for name, field in model.model_fields.items() if name not in without}
    return create_model(
        f"Optional{models[0].__name__}",
        __base__=Entry,
        **{
            name: (Annotated[field.annotation, *field.metadata, Field(description=field.description)], None)
            for name, field in fields.items()
        },
    )


class Entry(SettingsModel):
    """An entry of the configuration. Its name is its key in the file, and is empty until `called` sets it."""

    _name: str = PrivateAttr("")

    @property
    def name(self) -> str:
        return self._name

    def called(self, name: str, **changes) -> "Entry":
        """A copy with a name, and with `changes` to some fields."""
        entry = self.model_copy(update=changes)
        entry._name = name
        return entry


class Weights(Entry):
    """How many weights a teacher has."""

    unet: Count = Field(description="weights of the U-Net")
    others: NonNegativeInt = Field(description="weights of the VAE and the text encoders")


class TeacherEntry(Entry):
    """A multi-step diffusion model."""

    space: Space = Field(description="whether it denoises pixels or latents")
    solver: Solver = Field(description="solver of the ODE that makes the pairs")
    spacing: Spacing = Field("own", description="spacing of that solver's timesteps")
    path: Plain | None = Field(description="a diffusers folder or hub id; null: this scale has none")
    pickle: Plain | None = Field(None, description="official EDM checkpoint that the workflow converts to a teacher")
    training: ToyEDMSettings | ToySceneSettings | None = Field(None, description="how the workflow trains it")
    steps: dict[Solver, Count] = Field(description="number of steps of each solver")
    latent: Annotated[list[Count], Field(min_length=3, max_length=3)] = Field(
        description="channels, height and width of a latent, or of an image for a teacher in pixels"
    )
    weights: Weights
    lpips_side: LPIPSSide = 0

    @property
    def downsampling(self) -> int:
        """The pixels of an image along the side of one pixel of a latent: 8 for the VAEs of Stable Diffusion."""
        return 8 if self.space == "latent" else 1

    @property
    def made(self) -> bool:
        """Whether the workflow makes its files."""
        return self.training is not None or self.pickle is not None

    @model_validator(mode="after")
    def _check(self) -> "TeacherEntry":
        if self.training and (self.space == "pixel") != isinstance(self.training, ToyEDMSettings):
            wanted = "needs" if self.space == "pixel" else "takes no"
            raise ValueError(f"is in {self.space}s: its training {wanted} `images`")
        return self


class PromptsEntry(PromptFilter):
    """A list of prompts."""

    path: Place = Field(description="a .txt or .parquet file, a folder of .parquet files, openmoji, or unconditional")


Prompts = Annotated[  # a path alone is short for an entry with this path; null: this scale has none
    PromptsEntry | None,
    BeforeValidator(
        lambda said: {"path": said} if isinstance(said, str) else said,
        json_schema_input_type=str | PromptsEntry | None,
    ),
]


class DatasetEntry(Entry):
    """Pairs of one teacher at one guidance, or the first pairs of another dataset."""

    teacher: Name | None = None
    guidance: Guidance | None = None
    prompts: Name | None = None
    pairs: Count
    shards: Annotated[int, Field(ge=1, le=500)] | None = Field(None, description="number of files")
    held_out: HeldOut = Field(0, description="further pairs that only measure the error; 0: none")  # ours
    part_of: Name | None = Field(None, description="the dataset whose first pairs it takes")

    @model_validator(mode="after")
    def _check(self) -> "DatasetEntry":
        own = {self.teacher, self.guidance, self.prompts, self.shards}
        part = self.part_of is not None
        if (not part and None in own) or (part and (own != {None} or self.held_out)):
            raise ValueError("needs teacher, guidance, prompts and shards; or only part_of and pairs")
        return self

    @property
    def made(self) -> int:
        """The number of pairs that are made: those to train on, then those that are held out."""
        return self.pairs + self.held_out


class BatchEntry(Fitting):
    """A training batch and the machines that train on it."""

    size: Count = Field(description="samples per step, over all processes and micro-batches")
    nodes: Count = 1
    gpus: NonNegativeInt = Field(0, description="GPUs of each node; 0: train on the CPU")

    @property
    def fitting(self) -> dict:
        """The options of a training script that change results only by rounding errors."""
        return {name: getattr(self, name) for name in Fitting.model_fields}


class StageEntry(optional(*STAGES.values(), without=(*LossSettings.model_fields, "iterations", "batch_size", "seed"))):
    """The sizes of a stage: batches and numbers of iterations by name, and the settings that its runs share."""

    batch: dict[str, BatchEntry]
    iterations: dict[str, Count]


class RunEntry(optional(*STAGES.values(), without=("iterations", "batch_size"))):
    """A student to train. A setting that it does not state comes from `base`, otherwise from its stage."""

    stage: Literal[tuple(STAGES)] | None = None
    dataset: Name | None = Field(None, description="dataset of pairs to train on")
    teacher: Name | None = Field(None, description="teacher of Consistency Distillation, which needs no pairs")
    images: Name | None = Field(None, description="benchmark whose images Consistency Distillation trains on")
    init: Name | None = Field(None, description="the run that a student starts from, instead of the teacher")
    batch: Name | None = Field(None, description="a name under `batch` of the stage")
    iterations: Name | None = Field(None, description="a name under `iterations` of the stage")


class ModelEntry(optional(SamplingSettings, without=("model",))):
    """A row that is not trained here: a teacher with a solver, or a published pipeline.

    The scale names the files of a published pipeline, `pipeline` and `unet`. Without them, its row shows the paper's
    numbers alone, or is left out if it stands in for another row (`stand_in_for`).
    """

    teacher: Name | None = None
    solver: Solver | None = None
    pipeline: Place | None = Field(None, description="a published pipeline: a diffusers folder or hub id")
    scheduler: PipelineScheduler | None = None
    shard: Count | None = Field(None, description="most images that one job samples; none: all of a benchmark")
    stand_in_for: Name | None = Field(None, description="the row that it stands in for")

    @property
    def measured(self) -> bool:
        """Whether it can be sampled."""
        return self.teacher is not None or self.pipeline is not None

    @model_validator(mode="after")
    def _check(self) -> "ModelEntry":
        if self.teacher is not None:
            if None in (self.solver, self.guidance):
                raise ValueError("is a teacher: it needs solver and guidance")
            if stray := self.model_fields_set - {"teacher", "solver", "steps", "guidance", "shard", "stand_in_for"}:
                raise ValueError(f"is a teacher: it takes no {min(stray)}")
        elif None in (self.scheduler, self.steps, self.guidance, self.resolution):
            raise ValueError(
                "needs teacher, solver and guidance; or, for a published pipeline, scheduler, steps, guidance and "
                "resolution"
            )
        return self


class BenchmarkEntry(Resizing, Entry):
    """Prompts with reference images."""

    source: Location | None = Field(description="path of the images, or a registered source; null: this scale has none")
    pictures: Count = Field(description="number of prompts; one image is sampled for each")
    features: FeatureNetwork | None = Field(None, description="features of its FID; none: those of the evaluation")
    references: Count | None = Field(None, description="number of reference images, if there are no captions")


class TableEntry(Entry):
    """Rows (runs and models), all measured on one benchmark."""

    benchmark: Name
    metrics: Metrics
    rows: Names
    teacher: Name | None = Field(None, description="the row that DreamSim compares with")


class FigureEntry(Entry):
    """Columns of images (runs and models, with their titles) for the prompts of one benchmark."""

    benchmark: Name
    pictures: Count
    columns: Annotated[dict[Name, str], Field(min_length=1)]

    @property
    def rows(self) -> list[str]:
        return list(self.columns)


class HumanStudyEntry(Entry):
    """Figure 6: rows, and the rows that each is compared with."""

    benchmark: Name
    comparisons: Annotated[dict[Name, Annotated[list[Name], AfterValidator(_distinct)]], Field(min_length=1)]
    prompts: Count = Field(description="number of prompts whose images are compared")
    answers: Place = Field(description="folder with the answers of people")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(row, other) for row, others in self.comparisons.items() for other in others]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for pair in self.pairs for row in pair))


class SolvingEntry(optional(SolvingSettings, without=("solver", "spacing", "steps", "guidance"))):
    """How the ODE is solved for every dataset of pairs."""


class LatentsEntry(Entry):
    """Labelled images that are encoded for the VGG of LatentLPIPS."""

    size: Count = Field(description="side of the images in pixels")
    train: Count = Field(description="number of images to train on")
    val: Count = Field(description="number of held-out images")
    shard: Count = Field(description="latents per file")


class SideEntry(Entry):
    """Side in pixels of the judged patches, for LPIPS in latents and in pixels."""

    latent: Count
    pixel: Count


class CalibrationEntry(CalibrationSettings):
    """Calibration of LPIPS in latents and in pixels."""

    size: SideEntry


class LatentLPIPSEntry(Entry):
    """The metrics of the regression losses (Sec. 3.2), and Figures 2 and 3 about them."""

    images: Location = Field(description="labelled images: a folder, or openmoji")
    judgements: Location = Field(description="judgements of similarity: the folder of BAPPS, or openmoji")
    weights: dict[str, Plain] = Field(description="weights of the trunks that are not trained here")
    metrics: dict[str, Location] = Field(description="weights of the metrics that others calibrated")
    latents: LatentsEntry
    vgg: VGGSettings
    calibration: CalibrationEntry
    cost: LossTimingSettings
    reconstruction: ReconstructionSettings


class DiversityEntry(Entry):
    """Images for DreamDiv: several of each prompt."""

    prompts: Count = Field(description="number of prompts")
    repeats: Several = Field(description="images per prompt")


class EvaluationEntry(FeatureSettings, Sampled):
    """How images are sampled and measured. `benchmark` and `metrics` apply to a run that is not in any table."""

    benchmark: Name
    metrics: Metrics
    diversity: DiversityEntry


class RateEntry(Entry):
    """Seconds of one GPU per unit of a job's work, and the source of this number."""

    seconds: Positive
    basis: str


class CostEntry(Entry):
    """Assumed durations of jobs, used until such jobs have run here."""

    gpu_seconds: dict[Literal["generate_pairs", "train_regression", "train_gan", "sample"], dict[str, RateEntry]]
    notes: list[str]


class OriginEntry(Entry):
    """Where files come from, for results/doctor.md."""

    address: str = ""
    size: str = ""
    licence: str = ""


class AssetsEntry(Entry):
    """How the weights under assets/toy were trained."""

    vae: ToySceneSettings
    teacher: ToySceneSettings
    teacher_again: ToySceneSettings
    teacher_xl: ToySceneSettings
    teacher_xl_again: ToySceneSettings
    pixart: ToySceneSettings
    clip: ToySettings
    edm: ToyEDMSettings
    vgg_latent: optional(VGGSettings)
    vgg_pixel: optional(VGGSettings)


class Configuration(Watching, Entry):
    """The whole configuration of a study at one scale."""

    scale: Name
    work: Plain = Field(description="root folder of large files")
    seed: Seed = Field(description="seed of data, calibration and evaluation; a run has its own")
    seeds: Count = Field(description="how often every row is trained, sampled and measured, each with another seed")
    teachers: dict[Name, TeacherEntry]
    prompts: dict[Name, Prompts]
    datasets: dict[Name, DatasetEntry]
    solving: SolvingEntry
    latentlpips: LatentLPIPSEntry
    base: RunEntry = Field(description="settings of every run, unless its entry states others")
    runs: dict[Name, RunEntry]
    regression: StageEntry
    gan: StageEntry
    dmd: StageEntry
    dmd2: StageEntry
    progressive: StageEntry
    ufogen: StageEntry
    lcm: StageEntry
    add: StageEntry
    lightning: StageEntry
    reflow: StageEntry
    instaflow: StageEntry
    consistency: StageEntry
    models: dict[Name, ModelEntry]
    gpu_memory: float = Field(0, ge=0, description="GiB of a GPU, which every job has to fit; 0: not checked")
    plan: list[str] = Field(description="targets whose cost results/plan.md estimates; empty: all that can be made")
    cost: CostEntry
    origins: dict[str, OriginEntry] = Field({}, description="where the files of a path or of a hub id come from")
    stand_ins: dict[str, Name] = Field(description="the benchmark that stands in for another at this scale")
    benchmarks: dict[Name, BenchmarkEntry]
    evaluation: EvaluationEntry
    tables: dict[Name, TableEntry]
    figures: dict[Name, FigureEntry]
    human_study: HumanStudyEntry
    assets: AssetsEntry | None = None
