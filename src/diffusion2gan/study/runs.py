"""A run, with all its settings, from its entry in the configuration. This module does not import torch."""

from dataclasses import dataclass, replace

from diffusion2gan.errors import UserError
from diffusion2gan.settings import DistillationSettings
from diffusion2gan.study.entries import STAGES, BatchEntry, Configuration, RunEntry, StageEntry
from diffusion2gan.study.names import again, known


@dataclass(frozen=True)
class Run:
    """A student to train, with all its settings.

    Consistency Distillation has no `dataset` of pairs, but a `teacher`, and the `images` of a benchmark.
    """

    name: str
    stage: str
    settings: DistillationSettings
    batch: BatchEntry
    dataset: str | None = None
    teacher: str | None = None
    images: str | None = None
    init: str | None = None


def build(config: Configuration, name: str) -> Run:
    """The run with a name. Its own entry overrides `base`, which overrides its stage.

    Raises UserError if the entry states a setting that its stage does not have, or a batch that does not divide.
    """
    entry = config.runs[name]
    said = config.base.said() | entry.said()
    stage = said.pop("stage", "regression")
    sizes, kind, where = getattr(config, stage), STAGES[stage], f"config.yaml: runs.{name}"
    if (stage == "gan") != ("discriminator" in said):
        problem = "has no discriminator" if stage == "gan" else f"is a {stage} run with a discriminator"
        raise UserError(f"{where} {problem}: set `discriminator`, or `stage`")
    if stray := entry.said().keys() - kind.model_fields - set(RunEntry.__annotations__):
        raise UserError(f"{where} is of the stage {stage}, which has no setting '{min(stray)}': leave it out")
    if stray := sizes.said().keys() - kind.model_fields - set(StageEntry.__annotations__):
        raise UserError(f"scales/{config.scale}.yaml: {stage} has no setting '{min(stray)}': leave it out")
    given = {each: value for each, value in (sizes.said() | said).items() if each in kind.model_fields}
    if "guidance" in kind.model_fields and said.get("init") is None and said.get("dataset") in config.datasets:
        given.setdefault("guidance", config.datasets[said["dataset"]].guidance or 1.0)  # as in the data
    batch, iterations = _sizes(config, stage, said)
    try:
        settings = kind(**given | {"batch_size": batch.size, "iterations": iterations})
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    origin = {each: said.get(each) for each in ("dataset", "teacher", "images", "init")}
    if stage == "consistency" and "dataset" not in entry.said():
        origin["dataset"] = None
    return Run(name, stage, settings, batch, **origin)


def repeat(run: Run, number: int) -> Run:
    """A repeat of a run: its seed is larger by `number`, and it starts from the same repeat of its `init`."""
    settings = run.settings.model_copy(update={"seed": run.settings.seed + number})
    return replace(run, name=again(run.name, number), settings=settings, init=run.init and again(run.init, number))


def _sizes(config: Configuration, stage: str, said: dict) -> tuple[BatchEntry, int]:
    """The batch and the number of iterations that a run names."""
    sizes, where = getattr(config, stage), f"scales/{config.scale}.yaml: {stage}"
    name = said.get("batch", "base")
    batch = known("batch", name, sizes.batch, where)
    if batch.size % (pieces := batch.nodes * max(1, batch.gpus) * batch.accumulation):
        raise UserError(
            f"{where}: batch.{name} has size {batch.size}, which does not divide among "
            f"{batch.nodes} nodes of {max(1, batch.gpus)} GPUs with {batch.accumulation} micro-batches: choose a "
            f"multiple of {pieces}"
        )
    return batch, known("number of iterations", said.get("iterations", "base"), sizes.iterations, where)
