"""The checks of a study: every name refers to something that fits. This module does not import torch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from diffusion2gan.errors import UserError
from diffusion2gan.study.entries import DatasetEntry, TableEntry
from diffusion2gan.study.names import known
from diffusion2gan.study.runs import Run

STARTED = {"gan", "lightning", "instaflow"}  # stages that start from another run
WHOLE = {"lcm"}  # stages whose networks cannot be sharded

if TYPE_CHECKING:
    from diffusion2gan.study.study import Study


def check(study: "Study") -> None:
    """Raise UserError for a name that refers to nothing, or to something that does not fit."""
    for kind in ("teachers", "prompts", "runs", "models", "datasets", "benchmarks", "tables", "figures"):
        _check_case(kind, getattr(study, kind))
    for data in study.datasets.values():
        _check_dataset(study, data)
    for run in study.runs.values():
        _check_data(study, run)
        _check_init(study, run)
        if run.stage in ("progressive", "lightning"):
            _check_progressive(study, run)
    for model in study.models.values():
        if model.name in study.runs:
            raise UserError(f"config.yaml: models.{model.name} has the name of a run: rename it")
        if model.stand_in_for is not None:
            known("run or model", model.stand_in_for, study.runs | study.models, f"models.{model.name}.stand_in_for")
        if model.teacher is not None:
            known("teacher", model.teacher, study.teachers, f"models.{model.name}")
            study.steps(model.teacher, model.solver)
    for table in [*study.tables.values(), *study.figures.values()]:
        where = f"{'tables' if isinstance(table, TableEntry) else 'figures'}.{table.name}"
        study.benchmark(table.benchmark, where)
        for row in table.rows:
            known("run or model", row, study.runs | study.models, where)
        if isinstance(table, TableEntry) and "dreamsim" in table.metrics:
            known("model", table.teacher or "", study.models, f"{where}.teacher, which DreamSim needs")
    study.benchmark(study.config.human_study.benchmark, "human_study")
    for row in study.config.human_study.rows:
        known("run or model", row, study.runs | study.models, "human_study.comparisons")
    study.benchmark(study.config.evaluation.benchmark, "evaluation")


def _check_case(kind: str, names: Iterable[str]) -> None:
    """Names become files, and on disks that know no case two names would be one."""
    seen = {}
    for name in names:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise UserError(f"config.yaml: {kind}: {other} and {name} are the same file on some disks: rename one")


def _check_data(study: "Study", run: Run) -> None:
    """Consistency Distillation trains on a teacher and on images, every other stage on pairs."""
    where = f"runs.{run.name}"
    if run.stage != "consistency":
        known("dataset", run.dataset, study.datasets, where)
        if run.teacher or run.images:
            raise UserError(f"config.yaml: {where} learns from pairs: it takes no teacher and no images")
        if run.stage != "regression" and study.teacher_of(run.name).space == "pixel":
            raise UserError(f"config.yaml: {where} is a {run.stage} run, which needs latents: choose another dataset")
        if run.stage in WHOLE and run.batch.shard:
            raise UserError(f"config.yaml: {where} keeps whole networks: choose a batch without `shard`")
        return
    if run.dataset or not (run.teacher and run.images):
        raise UserError(f"config.yaml: {where} learns without pairs: give it teacher and images, and no dataset")
    space, loss = known("teacher", run.teacher, study.teachers, where).space, run.settings.loss
    if space != "pixel" or loss not in ("lpips", "mse"):
        raise UserError(f"config.yaml: {where} works in pixels: give it a pixel teacher, and the loss lpips or mse")
    study.benchmark(run.images, f"{where}.images")


def _check_progressive(study: "Study", run: Run) -> None:
    """A progressive run or SDXL-Lightning halves the steps of another one, or learns the guidance of its teacher."""
    settings, where = run.settings, f"config.yaml: runs.{run.name}"
    if run.init is None:
        return
    init, before = study.runs[run.init], settings.steps * settings.substeps
    if getattr(init.settings, "steps", None) != before:
        raise UserError(
            f"{where} replaces {before} steps (steps × substeps), and {run.init} is no progressive run with {before}: "
            "change `init` or `steps`"
        )
    if getattr(settings, "guidance", 1) > 1:
        raise UserError(f"{where} starts from {run.init}, which has learnt the guidance: leave out `guidance`")


def _check_init(study: "Study", run: Run) -> None:
    """The stages of `STARTED` start from another run, a GAN unless it is from scratch; a progressive student may."""
    where = f"config.yaml: runs.{run.name}"
    scratch = run.stage == "gan" and run.settings.from_scratch
    starts = run.stage in STARTED and not scratch
    if starts != (run.init is not None) and run.stage != "progressive":
        problem = f"is a {run.stage} run: it takes no `init`"
        if scratch:
            problem = "is trained from scratch: it takes no `init`"
        elif starts:
            problem = "has no `init`: name the run it starts from"
            problem += ", or set `from_scratch: true`" if run.stage == "gan" else ""
        raise UserError(f"{where} {problem}")
    seen = [run.name]
    while (init := study.runs[seen[-1]].init) is not None:
        known("run", init, study.runs, f"runs.{seen[-1]}.init")
        if init in seen:
            raise UserError(f"{where} starts from itself: {' -> '.join([*seen, init])}; change an `init`")
        seen.append(init)
    if run.init is None:
        return
    if (teacher := study.teacher_of(run.init).name) != study.teacher_of(run.name).name:
        raise UserError(f"{where} starts from {run.init}, a student of another teacher, {teacher}: change an `init`")
    if run.stage == "instaflow" and study.runs[run.init].stage != "reflow":
        raise UserError(f"{where} distils a rectified flow, and {run.init} is no reflow run: change `init`")
    if run.stage == "gan" and getattr(study.runs[run.init].settings, "steps", 1) > 1:
        raise UserError(f"{where} needs a student of one step, and {run.init} has several: change `init`")


def _check_dataset(study: "Study", data: DatasetEntry) -> None:
    """Check a dataset's teacher, solver, prompts and shards, and that it has no more pairs than what it is part of."""
    known("teacher", data.teacher, study.teachers, f"datasets.{data.name}")
    known("list of prompts", data.prompts, study.prompts, f"datasets.{data.name}")
    study.steps(data.teacher, study.teachers[data.teacher].solver)
    if data.shards > data.pairs and not data.part_of:
        raise UserError(f"scales/{study.scale}.yaml: datasets.{data.name} has more shards than pairs: reduce shards")
    if data.part_of and data.pairs > (whole := study.datasets[data.part_of]).pairs:
        raise UserError(
            f"scales/{study.scale}.yaml: datasets.{data.name} has more pairs than {whole.name}, which it is "
            "part of: reduce pairs"
        )
