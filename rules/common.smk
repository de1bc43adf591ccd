"""The study, and functions and constants that several rules share. No rules."""

import json
import os
import re
import sys
from pathlib import Path

from diffusion2gan import prefork
from diffusion2gan.errors import UserError
from diffusion2gan.report import claims
from diffusion2gan.study import options, targets
from diffusion2gan.study.cli import arguments
from diffusion2gan.study.config import load
from diffusion2gan.study.paths import Paths, files, folder_of
from diffusion2gan.study.study import Study

try:
    CONFIG = load(config, Path(workflow.basedir))
    STUDY = Study(CONFIG)
except UserError as error:
    sys.exit(f"error: {error}")

PATHS = Paths(STUDY)
SCALE = STUDY.scale
SEED = CONFIG.seed
WORK = PATHS.work
LATENTLPIPS = CONFIG.latentlpips
EVALUATION = CONFIG.evaluation
WATCHING = {} if CONFIG.report_to == "none" else {"report_to": CONFIG.report_to}
CONFIG_JSON = CONFIG.model_dump_json(exclude_unset=True)

# In a rule, `python` is the Python that runs Snakemake, even if its environment is not activated.
# An environment that conda made holds the lock's packages and not this one: scripts find it by its path.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    STUDY_CONFIG=CONFIG_JSON,  # for jobs that write it to a file: on their command line it would fill a failure's message
    PYTHONPATH=os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(workflow.basedir, "src"))])),
)


def one_of(names):
    """A wildcard constraint that allows only these names."""
    return "|".join(map(re.escape, names)) or "none"


def trained(space):
    """A wildcard constraint: the teachers in a space (pixel or latent) that the workflow trains."""
    return one_of(name for name, teacher in STUDY.teachers.items() if teacher.training and teacher.space == space)


def runs_of(stage):
    """A wildcard constraint: the runs of a stage."""
    return one_of(name for name, run in STUDY.runs.items() if run.stage == stage)


wildcard_constraints:
    run=one_of(STUDY.measured),
    dataset=one_of(name for name, data in STUDY.datasets.items() if not data.part_of),
    teacher=one_of(STUDY.teachers),
    benchmark=one_of(STUDY.benchmarks),
    table=one_of(STUDY.tables),
    trunk=r"pixel|latent-[^/]+",
    split="train|val",
    shard=r"\d{5}",
    shards=r"\d{5}",


def logged(command):
    """A command that writes to the log. If it fails, it also prints the user's mistake or the last line."""
    return (
        f"{command} > {{log}} 2>&1 || {{{{ (grep '^error: ' {{log}} || tail -n 1 {{log}}) | head -n 1 >&2; exit 1; }}}}"
    )


def training(command):
    """A command whose checkpoints are deleted at the end, because they cannot be resumed with other settings."""
    return logged(command) + "\nrm -rf {params.checkpoints}"


# Figures that plot FID against a cost: the table and its column
FID_AGAINST = {
    "fid_seconds": ("table3", "inference_seconds"),
    "fid_cost": ("table7", "device_days"),
    "nfe": ("table6", "nfe_million"),
    "methods": ("table8", "nfe_total_million"),
}
TABLES_OF_FIGURES = ["figure2", "figure3", *([] if STUDY.lacks(STUDY.human_study) else ["human_study"])]


def possible_figures():
    """The names of the figures that can be made at this scale."""
    tables = STUDY.possible(STUDY.tables)
    drawn = [figure for figure, (table, _) in FID_AGAINST.items() if table in tables]
    asked = [] if STUDY.lacks(STUDY.human_study) else ["figure6"]
    return [*STUDY.possible(STUDY.figures), "figure2", "figure3", "figure4", "figure5", *asked, *drawn]


def claimed_tables(stated):
    """The tables that the claims need and this scale can make. Those of the paper are the versions seed by seed."""
    named = {claim["table"] for claim in stated.values()}
    of_paper = [f"results/seeds/{table}.csv" for table in STUDY.possible(STUDY.tables) if table in named]
    return of_paper + [f"results/{table}.csv" for table in TABLES_OF_FIGURES if table in named]


if workflow.is_main_process and "assets" not in sys.argv:
    for path in PATHS.shipped():
        if not Path(path).exists():
            sys.exit(
                f"error: {path} is missing: restore it with `git checkout -- {path}`, "
                "or train it again with `snakemake --cores all -- assets`"
            )
