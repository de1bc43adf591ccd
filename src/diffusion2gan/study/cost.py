"""Estimate the cost of a study before it runs: jobs, hours, disk space and files of each rule.

Hours come from jobs of the same kind that have run on this hardware. If none has run, they come from the seconds that
the scale states (at the paper's scale, those of an A100). Otherwise they are unknown and stay empty.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from diffusion2gan.data.sources import SOURCES
from diffusion2gan.io import reading
from diffusion2gan.pairs.sizes import bytes_of
from diffusion2gan.study.entries import STAGES
from diffusion2gan.study.study import Study

ON_GPU = (
    "generate_pairs", "encode_latents", "train_vgg", "calibrate_lpips", "sample", "sample_diversity", "score",
    "rate_automatically", "time_losses", "reconstruct"
)  # fmt: skip
TRAININGS = tuple(f"train_{stage}" for stage in STAGES)
SAMPLINGS = ("sample", "sample_diversity")
PNG = 1.7  # bytes per pixel of a compressed image                                             # ours
FLOAT32 = 4
# of a GPU's memory; the rest is for CUDA's context, workspaces of its libraries and gaps between tensors     # ours
USABLE = 0.9


@dataclass(frozen=True)
class Job:
    """A job that Snakemake plans: its rule, its wildcards, the file of its timing, and what it asks of a cluster."""

    rule: str
    wildcards: dict[str, str]
    timing: Path | None
    resources: dict = field(default_factory=dict)
    threads: int = 1


def plan(
    study: Study, jobs: list[Job], gib: Callable[[str, dict[str, str]], float] = lambda rule, wildcards: math.nan
) -> pd.DataFrame:
    """A table with a row for each rule and what it works on.

    Columns: `rule`, `subject`, `jobs`, `hours` (of all jobs, one after the other), `gpu_hours`, `basis` (the source of
    the hours), `gpu_gib` (of a job on one GPU, from `gib`), `disk_gb`, `files`. Unknown hours and GiB are NaN, never 0.
    """
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.rule, subject(job)), []).append(job)
    rates = _measured(study, jobs)
    rows = []
    for (rule, name), members in groups.items():
        work = sum(units(study, job) for job in members)
        seconds, basis = _seconds(study, members[0], rates)
        hours, devices = work * seconds / 3600, gpus(study, members[0])
        rows.append(
            {
                "rule": rule,
                "subject": name,
                "jobs": len(members),
                "hours": hours,
                "gpu_hours": hours * devices if devices else 0.0,
                "basis": basis,
                "gpu_gib": gib(rule, members[0].wildcards),
                "disk_gb": sum(output_bytes(study, job.rule, job.wildcards) for job in members) / 1e9,
                "files": sum(files(study, job) for job in members),
            }
        )
    return pd.DataFrame(rows)


def subject(job: Job) -> str:
    """What a job works on: a dataset, an LPIPS trunk, a run, a benchmark."""
    return " on ".join(value for name, value in job.wildcards.items() if name not in ("shard", "shards", "split"))


def kind(study: Study, job: Job) -> tuple[str, str]:
    """The kind of a job. Jobs of one kind take the same time per unit of work."""
    if job.rule == "generate_pairs":
        return job.rule, study.datasets[job.wildcards["dataset"]].teacher
    if job.rule in TRAININGS:
        return job.rule, study.teacher_of(job.wildcards["run"]).name
    if job.rule in SAMPLINGS:
        row = job.wildcards["run"]
        if study.is_baseline(row):
            return "sample", row
        solver = "student" if row in study.runs else study.models[row].solver
        return "sample", f"{study.teacher_of(row).name}-{solver}"
    return job.rule, subject(job)


def units(study: Study, job: Job) -> float:
    """The units of work of a job: pairs, training samples, images, or a student's steps; 1 for any other job."""
    if job.rule == "generate_pairs":
        data = study.datasets[job.wildcards["dataset"]]
        return data.made / data.shards
    if job.rule in TRAININGS:
        run = study.runs[job.wildcards["run"]]
        return run.settings.iterations * run.batch.size
    if job.rule in SAMPLINGS:
        row = job.wildcards["run"]
        steps = study.sampling(row)["steps"] if row in study.runs else 1
        return steps * pictures(study, job.rule, job.wildcards)
    return 1


def pictures(study: Study, rule: str, wildcards: dict[str, str]) -> float:
    """The number of images that a job samples: its share of all."""
    wanted = study.config.evaluation.diversity
    diverse = wanted.prompts * wanted.repeats
    of_benchmark = study.benchmarks[wildcards["benchmark"]].pictures
    return (diverse if rule == "sample_diversity" else of_benchmark) / int(wildcards["shards"])


def gpus(study: Study, job: Job) -> int:
    """The number of GPUs that a job uses; 0 at a scale that trains without GPUs."""
    if job.rule in TRAININGS:
        batch = study.runs[job.wildcards["run"]].batch
        return batch.nodes * batch.gpus
    return int(job.rule in ON_GPU and any(run.batch.gpus for run in study.runs.values()))


def output_bytes(study: Study, rule: str, wildcards: dict[str, str]) -> int:
    """The bytes that the outputs of a job take on the disk; 0 for small files."""
    if rule == "generate_pairs":
        data = study.datasets[wildcards["dataset"]]
        return round(data.made / data.shards * pair_bytes(study, data.name))
    if rule in TRAININGS:
        weights = study.teacher_of(wildcards["run"]).weights
        return FLOAT32 * (weights.unet + weights.others)
    if rule == "encode_latents":
        split, teacher = wildcards["split"], study.teachers[wildcards["teacher"]]
        latents = study.config.latentlpips.latents
        a_latent = 2 * teacher.latent[0] * (latents.size // teacher.downsampling) ** 2 + 8
        return round(getattr(latents, split) / study.latent_shards(split) * a_latent)
    if rule in SAMPLINGS:
        row = wildcards["run"]
        if study.is_baseline(row):
            side = study.models[row].resolution
        else:
            teacher = study.teacher_of(row)
            side = teacher.latent[-1] * teacher.downsampling
        return round(pictures(study, rule, wildcards) * PNG * side**2)
    if rule == "make_benchmark":
        benchmark = study.benchmarks[wildcards["benchmark"]]
        made = benchmark.source in SOURCES  # others are linked
        return round(benchmark.pictures * PNG * benchmark.resolution**2) if made else 0
    return 0


def pair_bytes(study: Study, dataset: str) -> int:
    """The bytes that a pair takes on the disk."""
    return bytes_of(1, study.teachers[study.datasets[dataset].teacher].latent)


def files(study: Study, job: Job) -> int:
    """The number of files that a job writes: a folder of images holds one for each prompt."""
    if job.rule in SAMPLINGS:
        return round(pictures(study, job.rule, job.wildcards)) + 1
    if job.rule == "make_benchmark":
        return study.benchmarks[job.wildcards["benchmark"]].pictures + 1
    return 1


def took(timing: Path) -> float:
    """The seconds of a job, as recorded by Snakemake. Raises UserError if they cannot be read."""
    with reading(timing):
        return pd.read_csv(timing, sep="\t")["s"].sum()


def _measured(study: Study, jobs: list[Job]) -> dict[tuple, float]:
    """Seconds per unit of work, for each kind of job that has run here."""
    seconds, work = {}, {}
    for job in jobs:
        if job.timing and job.timing.exists():
            seconds[kind(study, job)] = seconds.get(kind(study, job), 0) + took(job.timing)
            work[kind(study, job)] = work.get(kind(study, job), 0) + units(study, job)
    return {each: seconds[each] / work[each] for each in seconds}


def _seconds(study: Study, job: Job, rates: dict[tuple, float]) -> tuple[float, str]:
    """Seconds per unit of a job's work, and the source of this number."""
    if kind(study, job) in rates:
        return rates[kind(study, job)], "measured here"
    if job.rule not in (*ON_GPU, *TRAININGS):
        return math.nan, "minutes, without a GPU"
    rule, name = kind(study, job)
    stated = study.config.cost.gpu_seconds.get(rule, {}).get(name)
    if stated is None:
        return math.nan, "unknown until one has run"
    return stated.seconds / max(1, gpus(study, job)), stated.basis
