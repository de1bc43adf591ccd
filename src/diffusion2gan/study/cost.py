"""What the study costs before it is paid for: jobs, hours, disk and files of each rule.

The jobs are those that a dry run of Snakemake plans. Hours come from what jobs of the same kind took
on this hardware, where some have run; else from the seconds that the scale states (at the paper's
scale, the paper's own on an A100); else they are unknown and stay empty.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan.data.sources import SOURCES
from diffusion2gan.study.study import Study

ON_GPU = (
    "generate_pairs", "encode_latents", "train_vgg", "calibrate_lpips", "sample", "sample_diversity", "score",
    "rate_automatically", "time_losses", "reconstruct"
)  # fmt: skip
TRAININGS = ("train_regression", "train_gan", "train_consistency")
SAMPLINGS = ("sample", "sample_diversity")
PNG = 1.7  # bytes a pixel of a compressed picture                                             # ours
FLOAT32 = 4


@dataclass(frozen=True)
class Job:
    """A job that Snakemake plans: its rule, its wildcards, and where it will say how long it took."""

    rule: str
    wildcards: dict[str, str]
    timing: Path | None


def planned(dry_run: str) -> list[Job]:
    """The jobs in the output of `snakemake --dry-run`, targets that only gather files left out."""
    jobs = []
    for block in re.split(r"^(?=(?:local)?rule \w+:$)", dry_run, flags=re.MULTILINE)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]
        said = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        wildcards = dict(each.split("=", 1) for each in said.get("wildcards", "").split(", ") if each)
        if "output" in said:
            jobs.append(Job(rule, wildcards, Path(said["benchmark"]) if "benchmark" in said else None))
    return jobs


def plan(study: Study, jobs: list[Job]) -> pd.DataFrame:
    """One line for each rule and what it works on: `jobs`, `hours` (of all jobs, one after the other),
    `gpu_hours`, `basis` of both, `disk_gb`, `files`.

    An hour that nobody knows is NaN, never nought.
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
                "disk_gb": sum(output_bytes(study, job.rule, job.wildcards) for job in members) / 1e9,
                "files": sum(files(study, job) for job in members),
            }
        )
    return pd.DataFrame(rows)


def subject(job: Job) -> str:
    """What a job works on: a data set, a trunk, a run, a benchmark."""
    return " on ".join(value for name, value in job.wildcards.items() if name not in ("shard", "split"))


def kind(study: Study, job: Job) -> tuple[str, str]:
    """Jobs of one kind take the same time for a unit of their work."""
    if job.rule == "generate_pairs":
        return job.rule, study.datasets[job.wildcards["dataset"]].teacher
    if job.rule in TRAININGS:
        return job.rule, study.teacher_of(job.wildcards["run"]).name
    if job.rule in SAMPLINGS:
        row = job.wildcards["run"]
        if study.is_peer(row):
            return "sample", row
        solver = "student" if row in study.runs else study.models[row].solver
        return "sample", f"{study.teacher_of(row).name}-{solver}"
    return job.rule, subject(job)


def units(study: Study, job: Job) -> float:
    """How much a job does: pairs, examples seen, pictures drawn; 1 where it is a whole."""
    if job.rule == "generate_pairs":
        data = study.datasets[job.wildcards["dataset"]]
        return data.pairs / data.shards
    if job.rule in TRAININGS:
        run = study.runs[job.wildcards["run"]]
        return run.iterations * run.batch.size
    if job.rule in SAMPLINGS:
        return pictures(study, job.rule, job.wildcards["benchmark"])
    return 1


def pictures(study: Study, rule: str, benchmark: str) -> int:
    """How many pictures a job draws."""
    if rule == "sample":
        return study.benchmarks[benchmark].pictures
    return math.prod(study.config["evaluation"]["diversity"].values())


def gpus(study: Study, job: Job) -> int:
    """The GPUs that a job holds; none at a scale that trains without."""
    if job.rule in TRAININGS:
        batch = study.runs[job.wildcards["run"]].batch
        return batch.nodes * batch.gpus
    return int(job.rule in ON_GPU and any(run.batch.gpus for run in study.runs.values()))


def output_bytes(study: Study, rule: str, wildcards: dict[str, str]) -> int:
    """What the outputs of a job will take on the disk, where that is worth counting."""
    if rule == "generate_pairs":
        data = study.datasets[wildcards["dataset"]]
        return round(data.pairs / data.shards * pair_bytes(study, data.name))
    if rule in TRAININGS:
        return FLOAT32 * sum(study.teacher_of(wildcards["run"]).weights.values())
    if rule == "encode_latents":
        split, a_latent = wildcards["split"], 2 * math.prod(study.teachers[wildcards["teacher"]].latent) + 8
        return round(study.config["latentlpips"]["latents"][split] / study.latent_shards(split) * a_latent)
    if rule in SAMPLINGS:
        row = wildcards["run"]
        if study.is_peer(row):
            side = study.models[row].resolution
        else:
            teacher = study.teacher_of(row)
            side = teacher.latent[-1] * (8 if teacher.space == "latent" else 1)
        return round(pictures(study, rule, wildcards["benchmark"]) * PNG * side**2)
    if rule == "make_benchmark":
        benchmark = study.benchmarks[wildcards["benchmark"]]
        drawn = benchmark.source in SOURCES  # others are linked
        return round(benchmark.pictures * PNG * benchmark.resolution**2) if drawn else 0
    return 0


def pair_bytes(study: Study, dataset: str) -> int:
    """A pair on the disk: its fp16 latent, its seed and its prompt's id."""
    return 2 * math.prod(study.teachers[study.datasets[dataset].teacher].latent) + 16


def files(study: Study, job: Job) -> int:
    """How many files a job leaves: a folder of pictures holds one for each prompt."""
    if job.rule in (*SAMPLINGS, "make_benchmark"):
        rule = "sample" if job.rule == "make_benchmark" else job.rule
        return pictures(study, rule, job.wildcards["benchmark"]) + 1
    return 1


def markdown(study: Study, table: pd.DataFrame, targets: list[str], free: float) -> str:
    """The plan for the person who pays; `free` are the bytes left where the work will lie."""
    known = table["gpu_hours"].sum()
    unknown = sorted(set(table.loc[table["gpu_hours"].isna(), "rule"]))
    disk = table["disk_gb"].sum()
    wanted = ", ".join(f"`{target}`" for target in targets) or "all that this scale has the data for"
    fits = "which is enough" if disk * 1e9 <= free else "**which is not enough**"
    more = f", and {_listed(unknown)}, whose time nobody has measured yet" if unknown else ""
    lines = [
        f"# What it costs at scale {study.scale}",
        "",
        f"For {wanted}, from nothing.",
        "",
        f"* **{known:,.0f} GPU-hours** ({known / 24:,.0f} GPU-days){more}",
        f"* **{_size(disk)}** on the disk, in {table['files'].sum():,} files; {_size(free / 1e9)} are free, {fits}",
        f"* **{table['jobs'].sum():,} jobs**",
        "",
        "## By rule",
        "",
        "| rule | jobs | GPU-hours | hours of one job | disk | files | the hours are from |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for rule, rows in table.groupby("rule", sort=False):
        gpu, each = rows["gpu_hours"].sum(min_count=1), rows["hours"].sum(min_count=1) / rows["jobs"].sum()
        cells = [rule, f"{rows['jobs'].sum():,}", _hours(gpu), _hours(each), _size(rows["disk_gb"].sum())]
        cells += [f"{rows['files'].sum():,}", "; ".join(dict.fromkeys(rows["basis"]))]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## The pairs",
        "",
        "| data set | teacher | guidance | pairs | shards | a shard | disk | |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    needed = set(table.loc[table["rule"] == "generate_pairs", "subject"])
    for name, data in study.datasets.items():
        size = data.pairs * pair_bytes(study, name) / 1e9
        cells = [name, data.teacher, f"{data.guidance:g}", f"{data.pairs:,}"]
        if data.part_of:
            cells += ["", "", "", f"the first of {data.part_of}"]
        else:
            cells += [str(data.shards), _size(size / data.shards), _size(size)]
            cells += ["" if name in needed else "not asked for"]
        lines.append(f"| {' | '.join(cells)} |")
    largest = max((teacher.weights["unet"] for teacher in study.teachers.values() if teacher.path), default=0)
    lines += [
        "",
        "## How far to trust it",
        "",
        "* Jobs are what Snakemake plans. The disk of the pairs is exact; of students and pictures it is an estimate.",
        f"* While it runs, a training also keeps a checkpoint: up to {_size(4 * FLOAT32 * largest / 1e9)} for the "
        "student (weights, their average, two moments), about as much again for a discriminator.",
        "* Hours that are marked as the paper's are those of one A100-80GB. As soon as one job of a kind has run on "
        "this hardware, make this plan again: it then counts with what that job took.",
        *(f"* {note}" for note in study.config["cost"]["notes"]),
    ]
    return "\n".join(lines) + "\n"


def _hours(hours: float) -> str:
    return "" if math.isnan(hours) else f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _size(gigabytes: float) -> str:
    if gigabytes >= 999.5:
        return f"{gigabytes / 1000:.2f} TB"
    return f"{gigabytes:.0f} GB" if gigabytes >= 9.5 else f"{gigabytes:.1g} GB" if gigabytes > 0.0005 else "–"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _measured(study: Study, jobs: list[Job]) -> dict[tuple, float]:
    """Seconds for a unit of work of each kind of job that has run here."""
    seconds, work = {}, {}
    for job in jobs:
        if job.timing and job.timing.exists():
            took = pd.read_csv(job.timing, sep="\t")["s"].sum()
            seconds[kind(study, job)] = seconds.get(kind(study, job), 0) + took
            work[kind(study, job)] = work.get(kind(study, job), 0) + units(study, job)
    return {each: seconds[each] / work[each] for each in seconds}


def _seconds(study: Study, job: Job, rates: dict[tuple, float]) -> tuple[float, str]:
    """Seconds for a unit of a job's work, and where they are from."""
    if kind(study, job) in rates:
        return rates[kind(study, job)], "measured here"
    if job.rule not in (*ON_GPU, *TRAININGS):
        return math.nan, "no GPU, minutes"
    rule, name = kind(study, job)
    stated = study.config["cost"]["gpu_seconds"].get(rule, {}).get(name)
    if stated is None:
        return math.nan, "unknown until one has run"
    return stated["seconds"] / max(1, gpus(study, job)), stated["basis"]
