"""The memory of a study's jobs on a GPU, counted at full size, and a refusal of those that exceed it.

A count takes seconds to a minute, so it is kept in a file until the code or the versions of the libraries change.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from diffusion2gan import memory
from diffusion2gan.errors import UserError
from diffusion2gan.io import read_json, write_json
from diffusion2gan.memory import jobs
from diffusion2gan.memory.count import GIB
from diffusion2gan.memory.networks import Source, known
from diffusion2gan.memory.training import Training
from diffusion2gan.progress import track
from diffusion2gan.settings import Fitting, SamplingSettings
from diffusion2gan.study.cost import TRAININGS, USABLE, Job, subject
from diffusion2gan.study.entries import TeacherEntry
from diffusion2gan.study.runs import Run
from diffusion2gan.study.study import Study

# A count takes long, so the runs of a table share one: settings that change the memory little are counted as if all
# were on, and settings that do not change it get fixed values.
ALL_ON = {"z_conditioning": True, "multi_scale": True, "r1": True, "mix_and_match": True}
IRRELEVANT = {
    "iterations": 1, "seed": 0, "learning_rate": 1.0, "d_learning_rate": 1.0, "warmup": 0, "decay": "constant",
    "lambda_gan": 1.0, "fake_learning_rate": 1.0, "lambda_regression": 1.0,
    "fake_updates": 1, "lambda_adversarial": 1.0, "lambda_head": 1.0,
    "lambda_reconstruction": 1.0, "lambda_distillation": 1.0, "r1_gamma_features": 1.0,
    "steps": 1, "flow_steps": 1, "noise_levels": 2, "target_decay": 0.5,
    "conditional_share": 1.0,
    "r1_gamma": 1.0, "r1_every": 1, "mix_fraction_latent": 0.25, "mix_fraction_text": 0.25, "mix_fraction_noise": 0.25,
    "ensemble": "bgco", "resampling": "wavelet",
}  # fmt: skip


class Memory:
    """GiB that jobs take on a GPU. Counts are read from `file` and added to it; without it they are not kept."""

    def __init__(self, study: Study, file: Path | None = None):
        self.study, self.file = study, file
        self.limit = USABLE * study.config.gpu_memory
        self.code = _code()
        kept = read_json(file) if file and file.is_file() else {}
        self.counts = kept["bytes"] if kept.get("code") == self.code else {}

    def gib(self, rule: str, wildcards: dict[str, str]) -> float:
        """GiB of a job on each of its GPUs; NaN for one that has no GPU or whose networks are not known."""
        job = job_of(self.study, rule, wildcards) if self.limit else None
        return self._count(job) if job else math.nan

    def check(self, planned: Iterable[tuple[str, dict]]) -> None:
        """Raise UserError if a job exceeds the memory of a GPU; its line names a setting that would fit."""
        for rule, wildcards in track(list(planned), "counting the memory of jobs"):
            if (needed := self.gib(rule, wildcards)) > self.limit:
                raise UserError(self._refusal(rule, wildcards, needed))

    def _count(self, job: jobs.Job) -> float:
        key = sha256(repr(job).encode()).hexdigest()
        if key not in self.counts:
            self.counts[key] = job.count()
            if self.file:
                write_json(self.file, {"code": self.code, "bytes": self.counts})
        return self.counts[key] / GIB

    def _refusal(self, rule: str, wildcards: dict[str, str], needed: float) -> str:
        size = self.study.config.gpu_memory
        where = f"scales/{self.study.scale}.yaml"
        exceeds = f"{needed:.0f} GiB of a GPU, more than {self.limit:.0f} of gpu_memory ({size:g})"
        if rule not in TRAININGS:
            return f"{where}: {rule} of {subject(Job(rule, wildcards, None))} needs {exceeds}: reduce its batch"
        run = self.study.runs[wildcards["run"]]
        name = next(name for name, batch in getattr(self.study.config, run.stage).batch.items() if batch == run.batch)
        return f"{where}: {run.stage}.batch.{name}: {run.name} needs {exceeds}: {self._remedy(run)}"

    def _remedy(self, run: Run) -> str:
        """The smallest number of micro-batches that fits, without or else with gradient checkpointing."""
        job = training(self.study, run)
        samples = job.settings.batch_size
        divisors = [each for each in range(job.fitting.accumulation, samples + 1) if samples % each == 0]
        for checkpointing in dict.fromkeys([job.fitting.gradient_checkpointing, True]):

            def needed(accumulation: int, checkpointing: bool = checkpointing) -> float:
                changes = {"accumulation": accumulation, "gradient_checkpointing": checkpointing}
                return self._count(replace(job, fitting=job.fitting.model_copy(update=changes)))

            found = bisect_left(divisors, True, key=lambda accumulation: needed(accumulation) <= self.limit)
            if found < len(divisors):
                more = " and gradient_checkpointing: true" if checkpointing else ""
                return f"set accumulation: {divisors[found]}{more} ({needed(divisors[found]):.0f} GiB)"
        return "more micro-batches do not help; set shard: true, or use more GPUs"


def job_of(study: Study, rule: str, wildcards: dict[str, str]) -> jobs.Job | None:
    """The job of a rule on a GPU, reduced to what its memory depends on; None if its networks are not known."""
    evaluation, metric = study.config.evaluation, study.config.latentlpips
    if rule in TRAININGS:
        return training(study, study.runs[wildcards["run"]])
    if rule == "generate_pairs":
        data = study.datasets[wildcards["dataset"]]
        source = _source(study.teachers[data.teacher])
        return source and jobs.Solving(source, study.config.solving.batch_size, data.guidance > 1)
    if rule in ("sample", "sample_diversity"):
        row = wildcards["run"]
        if study.is_baseline(row):
            return None
        settings = SamplingSettings(model="", **study.sampling(row))
        guidance = 2.0 if settings.guidance > 1 else 0.0  # memory depends only on whether there is guidance
        settings = settings.model_copy(update={"steps": min(settings.steps, jobs.STEPS), "guidance": guidance})
        source = _source(study.teacher_of(row))
        return source and jobs.Sampling(source, evaluation.batch_size, settings)
    if rule == "encode_latents":
        source = _source(study.teachers[wildcards["teacher"]])
        return source and jobs.Encoding(source, metric.latents.size)
    if rule in ("train_vgg", "calibrate_lpips"):
        space, _, name = wildcards["trunk"].partition("-")
        source = _source(study.teachers[name]) if name else None
        if name and source is None:
            return None
        if rule == "train_vgg":
            channels, side = 3, metric.vgg.size
            if source:
                channels, side = source.shape[0], metric.latents.size // study.teachers[name].downsampling
            return jobs.Classification(space, (channels, side, side), metric.vgg)
        calibration = metric.calibration.model_copy(update={"size": None})
        return jobs.Calibration(source, getattr(metric.calibration.size, space), calibration)
    if rule in ("time_losses", "reconstruct") and (source := _source(study.teachers["sd15"])):
        if rule == "time_losses":  # the largest of its losses
            return jobs.Descent(source, "lpips", metric.cost.batch_size, metric.cost.autocast)
        latents = metric.reconstruction.pictures * metric.reconstruction.seeds
        if wildcards["loss"] == "lpips":
            return jobs.Descent(source, "lpips", min(latents, metric.reconstruction.decoded))
        return jobs.Descent(source, "e_latent_lpips", latents)
    if rule == "score" and not evaluation.clip.startswith("local-dir:"):
        pictures = study.benchmarks[wildcards["benchmark"]].pictures
        return jobs.Scoring(evaluation.clip.partition("/")[0], pictures, evaluation.resamples)
    return None


def training(study: Study, run: Run) -> Training | None:
    """The training of a run, as one of its GPUs sees it; None without a GPU, or if its networks are not known.

    A diffusion discriminator is counted with everything on, and a loss on latents as E-LatentLPIPS.
    """
    teacher, batch = study.teacher_of(run.name), run.batch
    source = _source(teacher)
    if source is None or not batch.gpus:
        return None
    gpus = batch.nodes * batch.gpus
    same = {name: value for name, value in IRRELEVANT.items() if name in type(run.settings).model_fields}
    same |= {"batch_size": run.settings.batch_size // gpus, "ema_decay": float(run.settings.ema_decay > 0)}
    same |= ALL_ON if getattr(run.settings, "discriminator", None) == "diffusion" else {}
    same |= {"loss": "e_latent_lpips"} if source.path and run.settings.loss not in ("lpips", "none") else {}
    return Training(
        run.settings.model_copy(update=same),
        Fitting(**batch.fitting),
        source,
        lpips_side=teacher.lpips_side if run.settings.loss == "lpips" else 0,
        parallel=gpus > 1,
        sharded_over=batch.gpus if batch.shard else 1,
    )


def _source(teacher: TeacherEntry) -> Source | None:
    """The networks of a teacher, if they are known."""
    if teacher.space == "pixel":
        return Source("", tuple(teacher.latent), teacher.weights.unet)
    return Source(teacher.path, tuple(teacher.latent)) if teacher.path and known(teacher.path) else None


def _code() -> str:
    """A checksum of the library's code and of the versions that a count depends on."""
    library = Path(memory.__file__).parents[1]
    digest = sha256("".join(version(name) for name in ("torch", "diffusers", "transformers")).encode())
    for file in sorted(library.rglob("*.py")):
        if file.relative_to(library).parts[0] not in ("report", "human_study", "study", "toy", "data"):
            digest.update(file.read_bytes())
    return digest.hexdigest()
