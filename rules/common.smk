"""The study, and what several rules share; no rules."""

import json
import os
import re
import sys
from pathlib import Path

from diffusion2gan.errors import UserError
from diffusion2gan.report import claims
from diffusion2gan.study import options
from diffusion2gan.study.cli import arguments
from diffusion2gan.study.config import load
from diffusion2gan.study.paths import Paths, files
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
CONFIG_JSON = CONFIG.model_dump_json(exclude_unset=True)

# `python` in a rule is the one that runs Snakemake, also where its environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))


def one_of(names):
    """A wildcard's constraint: one of some names."""
    return "|".join(map(re.escape, names)) or "none"


wildcard_constraints:
    run=one_of(STUDY.measured),
    dataset=one_of(name for name, data in STUDY.datasets.items() if not data.part_of),
    teacher=one_of(STUDY.teachers),
    benchmark=one_of(STUDY.benchmarks),
    table=one_of(STUDY.tables),
    trunk=r"pixel|latent-[^/]+",
    split="train|val",
    shard=r"\d{5}",


def logged(command):
    """A command that writes to the log. If it fails, the user's mistake or the last line is shown too."""
    return (
        f"{command} > {{log}} 2>&1 || {{{{ (grep '^error: ' {{log}} || tail -n 1 {{log}}) | head -n 1 >&2; exit 1; }}}}"
    )


def training(command):
    """A command whose checkpoints are deleted once it has ended: they would refuse other settings."""
    return logged(command) + "\nrm -rf {params.checkpoints}"


# figures that plot FID against another column: of which table
FID_AGAINST = {
    "fid_seconds": ("table3", "inference_seconds"),
    "fid_cost": ("table7", "device_days"),
    "nfe": ("table6", "nfe_million"),
}
TABLES_OF_FIGURES = ["figure2", "figure3", *([] if STUDY.lacks(STUDY.human_study) else ["human_study"])]


def possible_figures():
    """The names of the figures that this scale has everything for."""
    tables = STUDY.possible(STUDY.tables)
    drawn = [figure for figure, (table, _) in FID_AGAINST.items() if table in tables]
    asked = [] if STUDY.lacks(STUDY.human_study) else ["figure6"]
    return [*STUDY.possible(STUDY.figures), "figure2", "figure3", "figure4", "figure5", *asked, *drawn]


def claimed_tables(stated):
    """The tables that claims are about and that this scale can make, those of the paper seed by seed."""
    named = {claim["table"] for claim in stated.values()}
    of_paper = [f"results/seeds/{table}.csv" for table in STUDY.possible(STUDY.tables) if table in named]
    return of_paper + [f"results/{table}.csv" for table in TABLES_OF_FIGURES if table in named]


if workflow.is_main_process and "assets" not in sys.argv:
    for path in PATHS.shipped():
        if not Path(path).exists():
            sys.exit(
                f"error: {path} is missing: restore it with `git checkout -- {path}`, "
                "or train it anew with `snakemake --cores all -- assets`"
            )
