"""Paths and look-ups; no rules."""

import json
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from diffusion2gan.data.sources import CIFAR10, EDM_CIFAR10, SOURCES
from diffusion2gan.errors import UserError
from diffusion2gan.io import check_disk
from diffusion2gan.report import claims
from diffusion2gan.study.config import load
from diffusion2gan.study.stanzas import COST, SPEED
from diffusion2gan.study.study import Study

try:
    CONFIG = load(config, Path(workflow.basedir))
    STUDY = Study(CONFIG)
except UserError as error:
    sys.exit(f"error: {error}")

SCALE = STUDY.scale
SEED = CONFIG["seed"]
WORK = f"{CONFIG['work']}/{SCALE}"
LATENTLPIPS = CONFIG["latentlpips"]
EVALUATION = CONFIG["evaluation"]
TABLES_OF_FIGURES = ["figure2", "figure3", *([] if STUDY.lacks(STUDY.human_study) else ["human_study"])]

# `python` in a rule is the one that runs Snakemake, also where its environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


wildcard_constraints:
    run="|".join(map(re.escape, STUDY.measured)),
    dataset="|".join(re.escape(name) for name, data in STUDY.datasets.items() if not data.part_of),
    teacher="|".join(map(re.escape, STUDY.teachers)),
    benchmark="|".join(map(re.escape, STUDY.benchmarks)),
    table="|".join(map(re.escape, STUDY.tables)),
    trunk=r"pixel|latent-[^/]+",
    split="train|val",
    shard=r"\d{5}",


def logged(command):
    """A command whose every word goes to the log; if it fails, the user's mistake or the last line is shown too."""
    return (
        f"{command} > {{log}} 2>&1 || {{{{ (grep '^error: ' {{log}} || tail -n 1 {{log}}) | head -n 1 >&2; exit 1; }}}}"
    )


def training(command):
    """A command that needs its checkpoints no more once it has ended: they would refuse other settings."""
    return logged(command) + "\nrm -rf {params.checkpoints}"


def arguments(options):
    """Settings as a command line: {"batch_size": 8, "r1": True} → "--batch_size 8 --r1 true"."""
    return " ".join(f"--{name} {_words(value)}" for name, value in options.items())


def _words(value):
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))


def possible(targets):
    """The names of the tables or figures that this scale has everything for."""
    return [name for name, target in targets.items() if STUDY.lacks(target) is None]


# figures that draw FID against another column: of which table
FID_AGAINST = {
    "fid_seconds": ("table3", "inference_seconds"),
    "fid_cost": ("table7", "device_days"),
    "nfe": ("table6", "nfe_million"),
}


def possible_figures():
    """The names of the figures that this scale has everything for."""
    drawn = [figure for figure, (table, _) in FID_AGAINST.items() if table in possible(STUDY.tables)]
    asked = [] if STUDY.lacks(STUDY.human_study) else ["figure6"]
    return [*possible(STUDY.figures), "figure2", "figure3", "figure4", "figure5", *asked, *drawn]


def unavailable(kind, name):
    """What a job needs when the scale lacks something: a file whose rule says what to set, and fails."""
    return f"{WORK}/unavailable/{kind}/{name}"


@cache
def files(path):
    """The weights and settings of a local model, so that a change of them is noticed; none of a hub id."""
    path = Path(path.removeprefix("local-dir:"))
    if path.is_file():
        return [str(path)]
    return sorted(str(file) for file in path.rglob("*") if file.suffix in (".safetensors", ".json"))


def teacher_files(name):
    teacher = STUDY.teachers[name]
    if teacher.path is None:
        return unavailable("teachers", name)
    return teacher.path if teacher.made else files(teacher.path)


def dataset_of(run):
    """The data set that holds a run's pairs."""
    return STUDY.datasets[STUDY.runs[run].dataset].part_of or STUDY.runs[run].dataset


def pairs_folder(run):
    return f"{WORK}/pairs/{dataset_of(run)}"


def pairs_of(run):
    """The folder of a run's pairs, and how many of them are its own where that is not all."""
    data = STUDY.datasets[STUDY.runs[run].dataset]
    return pairs_folder(run) + (f" --first {data.pairs}" if data.part_of else "")


def student(run):
    return f"{WORK}/runs/{run}/student"


def metric(trunk):
    """The calibrated metric of a trunk."""
    return f"{WORK}/latentlpips/{trunk}/lpips.safetensors"


def metric_of(run):
    """The calibrated metric that a run's loss needs, if any."""
    trunk = STUDY.trunk_of(run)
    return metric(trunk) if trunk else []


def seeing(run, lpips):
    """How a run's loss sees: its metric, and the side that pixels are resized to for it."""
    side = STUDY.teacher_of(run).lpips_side
    return (
        {}
        if not lpips
        else {"lpips": lpips} | ({"lpips_side": side} if side and STUDY.runs[run].loss == "lpips" else {})
    )


def real_pictures(run):
    """The pictures that Consistency Distillation learns from."""
    return f"{WORK}/benchmarks/{STUDY.benchmark(STUDY.runs[run].images).name}/images"


def latent_files(folder, split):
    """The files of a split of labelled latents."""
    return [f"{folder}/{split}-{shard:05d}.safetensors" for shard in range(STUDY.latent_shards(split))]


def labelled(trunk, split):
    """The files of labelled latents of a trunk; pixels are read from their source."""
    return [] if trunk == "pixel" else latent_files(f"{WORK}/latents/{trunk.removeprefix('latent-')}", split)


def calibration(trunk):
    """The options of a trunk's calibration; latents are encoded by their teacher."""
    sizes = LATENTLPIPS["calibration"]
    space, _, teacher = trunk.partition("-")
    options = {
        "space": space,
        "judgements": LATENTLPIPS["judgements"],
        "count": sizes["judgements"],
        "size": sizes["size"][space],
        "seed": SEED,
    }
    options |= {name: sizes[name] for name in ("held_out", "iterations", "batch_size", "learning_rate")}
    return options | ({"teacher": STUDY.teachers[teacher].path} if teacher else {})


def shards(dataset):
    return [f"{WORK}/pairs/{dataset}/shard-{shard:05d}.safetensors" for shard in range(STUDY.datasets[dataset].shards)]


def prompts_of(dataset):
    """Where the prompts of a data set are from, and which of them are taken."""
    settings = dict(STUDY.prompts[STUDY.datasets[dataset].prompts] or {"path": None})
    return {"source": settings.pop("path")} | settings


def solving(dataset):
    """How the ODE of a data set is solved."""
    data = STUDY.datasets[dataset]
    teacher = STUDY.teachers[data.teacher]
    return {
        "teacher": teacher.path,
        "steps": STUDY.steps(teacher.name, teacher.solver),
        "solver": teacher.solver,
        "spacing": teacher.spacing,
        "guidance": data.guidance,
        "count": data.pairs,
        "shards": data.shards,
        "batch_size": CONFIG["solving"]["batch_size"],
        "seed": SEED,
    }


def drawn_with(row):
    """The model of a row: a student's folder, a teacher's path, or a peer's."""
    if row in STUDY.runs:
        return student(row)
    return STUDY.models[row].pipeline if STUDY.is_peer(row) else STUDY.teacher_of(row).path


def model_files(row):
    """What a row is drawn with, so that a change of it is noticed."""
    if row in STUDY.runs:
        return student(row)
    return files(STUDY.models[row].pipeline) if STUDY.is_peer(row) else teacher_files(STUDY.teacher_of(row).name)


def wants(row, benchmark, metric):
    return metric in STUDY.metrics_of(row)[benchmark]


def scoring(row, benchmark):
    """What is measured on a benchmark, and how."""
    wanted = STUDY.metrics_of(row)[benchmark]
    reference = STUDY.benchmarks[benchmark]
    options = {
        "metrics": [metric for metric in wanted if metric not in (*SPEED, *COST)],
        "resolution": reference.resolution,
        "resize_filter": reference.resize_filter,
        "time": bool(set(wanted) & set(SPEED)),
    }
    names = ("features", "second_features", "feature_side", "clip", "clip_prefix", "dreamsim", "resamples")
    return options | {name: EVALUATION[name] for name in names}


def compared_pictures(row, benchmark):
    """The folders of pictures that a row's are compared with besides the benchmark's, by the option of score.py."""
    folders = {}
    if wants(row, benchmark, "dreamsim"):
        folders["teacher_images"] = f"{WORK}/runs/{STUDY.compared_with(row, benchmark)}/samples/{benchmark}"
    if wants(row, benchmark, "dreamdiv"):
        folders["diversity"] = f"{WORK}/runs/{row}/diversity/{benchmark}"
    return folders


def upstream(run):
    """Where the jobs that a run could not do without say how long they took: its pairs, and its metric's."""
    trunk = {STUDY.trunk_of(each) for each in STUDY.lineage(run)} - {None}
    names = []
    if STUDY.runs[run].dataset:
        dataset = dataset_of(run)
        names += [f"prepare_prompts/{dataset}", f"index_pairs/{dataset}"]
        names += [f"generate_pairs/{dataset}-{shard:05d}" for shard in range(STUDY.datasets[dataset].shards)]
    for each in sorted(trunk - LATENTLPIPS["metrics"].keys()):
        names.append(f"calibrate_lpips/{each}")
        names += [] if each in LATENTLPIPS["weights"] else [f"train_vgg/{each}"]
    return [f"{WORK}/timings/{name}.tsv" for name in names]


def metrics_files(rows, benchmark=None, wanted=None):
    """The metrics of the measured rows and their repeats, on one benchmark or on all; of runs also the cost, if wanted."""
    found = {}
    for row in STUDY.repeated(rows):
        for name, metrics in STUDY.metrics_of(row).items():
            if benchmark in (None, name):
                found[f"{WORK}/runs/{row}/metrics/{name}.json"] = None
                if row in STUDY.runs and set(wanted or metrics) & set(COST):
                    found[f"{WORK}/runs/{row}/metrics/cost.json"] = None
    return list(found)


def claimed_tables(stated):
    """The tables that claims are about and that this scale can make, those of the paper seed by seed."""
    named = {claim["table"] for claim in stated.values()}
    of_paper = [f"results/seeds/{table}.csv" for table in possible(STUDY.tables) if table in named]
    return of_paper + [f"results/{table}.csv" for table in TABLES_OF_FIGURES if table in named]


def seed_of(row):
    """The seed of a row's pictures: a repeat draws from other noise."""
    return SEED + STUDY.origins[row][1]


def refuse_what_does_not_fit():
    """End before the first job if the disk has no room for what all jobs together will leave on it."""
    # here: it imports pandas, which a job of the workflow need not wait for
    from diffusion2gan.study.cost import output_bytes

    needed = sum(output_bytes(STUDY, job.rule.name, job.wildcards_dict) for job in workflow.dag.needrun_jobs())
    try:
        check_disk(Path(WORK), needed, "what is to be made (`snakemake -- results/plan.md` says what)")
    except UserError as error:
        raise WorkflowError(str(error)) from error


def refuse_what_is_missing():
    """End before the first job if a benchmark that will be prepared is not where the scale says."""
    from diffusion2gan.data import coco  # here, for the same reason

    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "make_benchmark":
            benchmark = STUDY.benchmarks[job.wildcards.benchmark]
            source = benchmark.source
            if benchmark.references and source not in (*SOURCES, *FETCHED) and not Path(source).exists():
                raise WorkflowError(f"there are no pictures at {source}: set `benchmarks` in scales/{SCALE}.yaml")
            if source and Path(source).name in coco.SIZES and (lacking := coco.missing(Path(source))):
                raise WorkflowError(f"missing: {lacking}, or set `benchmarks` in scales/{SCALE}.yaml")


def shipped():
    """The weights under assets/ that this scale starts from."""
    paths = [teacher.path for teacher in STUDY.teachers.values()]
    paths += [*LATENTLPIPS["weights"].values(), EVALUATION["clip"].removeprefix("local-dir:")]
    return [path for path in paths if path and path.startswith("assets/")]


if workflow.is_main_process and "assets" not in sys.argv:
    for path in shipped():
        if not Path(path).exists():
            sys.exit(
                f"error: {path} is missing: restore it with `git checkout -- {path}`, "
                "or train it anew with `snakemake --cores all -- assets`"
            )
