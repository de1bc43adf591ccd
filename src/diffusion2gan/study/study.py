"""The study: its runs, datasets, tables and figures, and what each of them needs.

Built from a valid configuration (`diffusion2gan.study.config`). It knows names and settings, but
neither paths of results nor Snakemake. It does not import torch, because every job of the workflow reads it.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

from diffusion2gan.errors import UserError, nearest
from diffusion2gan.settings import DistillationSettings
from diffusion2gan.study.entries import (
    STAGES,
    BatchEntry,
    BenchmarkEntry,
    Configuration,
    DatasetEntry,
    Entry,
    FigureEntry,
    HumanStudyEntry,
    ModelEntry,
    PromptsEntry,
    RunEntry,
    StageEntry,
    TableEntry,
    TeacherEntry,
)


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


@dataclass(frozen=True)
class Study:
    """The whole study at one scale. Raises UserError for an unknown name."""

    config: Configuration = field(repr=False)

    def __post_init__(self):
        for run in self.runs.values():
            self._check_data(run)
            self._check_init(run)
        for data in self.datasets.values():
            self._check_dataset(data)
        for model in self.models.values():
            if model.teacher is not None:
                _known("teacher", model.teacher, self.teachers, f"models.{model.name}")
                self.steps(model.teacher, model.solver)
        for table in [*self.tables.values(), *self.figures.values()]:
            where = f"{'tables' if isinstance(table, TableEntry) else 'figures'}.{table.name}"
            self.benchmark(table.benchmark, where)
            for row in table.rows:
                _known("run or model", row, self.runs | self.models, where)
            if isinstance(table, TableEntry) and "dreamsim" in table.metrics:
                _known("model", table.teacher or "", self.models, f"{where}.teacher, which DreamSim needs")
        self.benchmark(self.config.human_study.benchmark, "human_study")
        for row in self.config.human_study.rows:
            _known("run or model", row, self.runs | self.models, "human_study.comparisons")
        self.benchmark(self.config.evaluation.benchmark, "evaluation")

    @cached_property
    def teachers(self) -> dict[str, TeacherEntry]:
        folder = f"{self.config.work}/{self.scale}/teachers"
        return {
            name: entry.called(name, **({"path": f"{folder}/{name}"} if entry.made else {}))
            for name, entry in self.config.teachers.items()
        }

    @cached_property
    def datasets(self) -> dict[str, DatasetEntry]:
        entries = self.config.datasets
        wholes = {name: entry for name, entry in entries.items() if not entry.part_of}
        found = {}
        for name, entry in entries.items():
            changes = {}
            if entry.part_of:
                whole = _known("whole dataset", entry.part_of, wholes, f"datasets.{name}.part_of")
                changes = {each: getattr(whole, each) for each in ("teacher", "guidance", "prompts", "shards")}
            found[name] = entry.called(name, **changes)
        return found

    @cached_property
    def runs(self) -> dict[str, Run]:
        runs = {name: self._run(name, entry) for name, entry in self.config.runs.items()}
        return runs | {
            again(name, number): replace(
                run,
                name=again(name, number),
                settings=run.settings.model_copy(update={"seed": run.settings.seed + number}),
                init=run.init and again(run.init, number),
            )
            for number in self.repeats
            for name, run in runs.items()
        }

    @cached_property
    def models(self) -> dict[str, ModelEntry]:
        entries = self.config.models
        return _named(entries) | {
            again(name, number): entry.called(again(name, number))
            for number in self.repeats
            for name, entry in entries.items()
            if entry.measured
        }

    @cached_property
    def benchmarks(self) -> dict[str, BenchmarkEntry]:
        return _named(self.config.benchmarks)

    @cached_property
    def tables(self) -> dict[str, TableEntry]:
        return _named(self.config.tables)

    @cached_property
    def figures(self) -> dict[str, FigureEntry]:
        return _named(self.config.figures)

    @cached_property
    def human_study(self) -> HumanStudyEntry:
        """The human study, without comparisons of a row that this scale does not measure."""
        known = {
            row: [other for other in others if {row, other} <= set(self.measured)]
            for row, others in self.config.human_study.comparisons.items()
        }
        return self.config.human_study.called("human_study", comparisons=known)

    @property
    def prompts(self) -> dict[str, PromptsEntry | None]:
        """The lists of prompts, each with its filter; None for a list that the scale does not have."""
        return self.config.prompts

    @property
    def scale(self) -> str:
        return self.config.scale

    @cached_property
    def measured(self) -> list[str]:
        """The rows that are measured: every run, and every model that can be sampled at this scale."""
        return [*self.runs, *(name for name, model in self.models.items() if model.measured)]

    @property
    def repeats(self) -> range:
        """The numbers of the repeats of each row. Repeat n adds n to the seeds."""
        return range(1, self.config.seeds)

    @cached_property
    def origins(self) -> dict[str, tuple[str, int]]:
        """For each row and each of its repeats: the original row and the number, 0 for the row itself."""
        rows = [*self.config.runs, *self.config.models]
        return {again(row, number): (row, number) for row in rows for number in (0, *self.repeats)}

    def repeated(self, rows: list[str]) -> list[str]:
        """The measured rows among `rows`, each with its repeats."""
        return [again(row, number) for row in rows if row in self.measured for number in (0, *self.repeats)]

    def benchmark(self, name: str, where: str = "benchmarks") -> BenchmarkEntry:
        """The benchmark with a name, or the one that stands in for it at this scale."""
        name = self.config.stand_ins.get(name, name)
        return _known("benchmark", name, self.benchmarks, where)

    def rows(self, table: str) -> list[str]:
        """The rows of a table, without stand-ins that this scale does not have."""
        models = self.models
        absent = {name for name in models if models[name].stand_in_for and not models[name].measured}
        return [row for row in self.tables[table].rows if row not in absent]

    def is_baseline(self, row: str) -> bool:
        """Whether a row is a published pipeline."""
        return row in self.models and self.models[row].teacher is None

    def teacher_of(self, row: str) -> TeacherEntry:
        """The teacher that a run learns from, or that a model samples with."""
        source = self.runs[row] if row in self.runs else self.models[row]
        return self.teachers[source.teacher or self.datasets[source.dataset].teacher]

    def sampling(self, row: str) -> dict:
        """How a row is sampled: a student in one step, a teacher with its solver, a baseline as its entry says."""
        if row in self.runs:
            return {"scheduler": "student", "steps": 1, "guidance": 0}
        model = self.models[row]
        if not self.is_baseline(row):
            steps = model.steps or self.steps(model.teacher, model.solver)
            spacing = self.teachers[model.teacher].spacing
            return {"scheduler": model.solver, "steps": steps, "spacing": spacing, "guidance": model.guidance}
        names = ("unet", "scheduler", "spacing", "prediction", "timesteps", "steps", "guidance", "resolution")
        return {name: value for name in names if (value := getattr(model, name)) not in (None, [])}

    def dataset_of(self, run: str) -> str:
        """The dataset whose files hold a run's pairs. A part uses the files of its whole."""
        name = self.runs[run].dataset
        return self.datasets[name].part_of or name

    def seed_of(self, row: str) -> int:
        """The seed of a row's images. A repeat starts from other noise."""
        return self.config.seed + self.origins[row][1]

    def possible(self, targets: dict[str, TableEntry | FigureEntry]) -> list[str]:
        """The names of the tables or figures that this scale has everything for."""
        return [name for name, target in targets.items() if self.lacks(target) is None]

    def compared_with(self, row: str, benchmark: str) -> str | None:
        """The row that DreamSim compares a row with on a benchmark; None if no table asks for DreamSim."""
        row, number = self.origins[row]
        for table in self.tables.values():
            here = row in table.rows and self.benchmark(table.benchmark).name == benchmark
            if here and "dreamsim" in table.metrics:
                return again(table.teacher, number)
        return None

    def lineage(self, run: str) -> list[str]:
        """A run and the runs that it starts from, itself first."""
        return [run, *(self.lineage(self.runs[run].init) if self.runs[run].init else [])]

    def steps(self, teacher: str, solver: str) -> int:
        """The number of steps of a teacher's solver at this scale."""
        return _known("solver", solver, self.teachers[teacher].steps, f"teachers.{teacher}.steps")

    def sample_shards(self, row: str, images: int) -> int:
        """The number of jobs that sample `images` images of a row."""
        most = self.models[row].shard if row in self.models else None
        return -(-images // max(most, self.config.evaluation.batch_size)) if most else 1

    def latent_shards(self, split: str) -> int:
        """The number of files with the labelled latents of a split."""
        latents = self.config.latentlpips.latents
        return -(-getattr(latents, split) // latents.shard)

    def trunk_of(self, run: str) -> str | None:
        """The LPIPS trunk of a run's loss: `pixel`, `latent-TEACHER`, or None."""
        loss, teacher = self.runs[run].settings.loss, self.teacher_of(run)
        if loss == "lpips":
            return "pixel"
        return f"latent-{teacher.name}" if loss in ("latent_lpips", "e_latent_lpips") else None

    def metrics_of(self, row: str) -> dict[str, list[str]]:
        """The metrics of a row on each of its benchmarks: all that its tables ask for."""
        metrics, (row, _) = {}, self.origins[row]
        for table in self.tables.values():
            if row in table.rows:
                wanted = metrics.setdefault(self.benchmark(table.benchmark).name, [])
                wanted += [metric for metric in table.metrics if metric not in wanted]
        if not metrics:
            default = self.config.evaluation
            metrics[self.benchmark(default.benchmark).name] = list(default.metrics)
        return metrics

    def lacks(self, target: TableEntry | FigureEntry | HumanStudyEntry) -> str | None:
        """The first thing that a table, a figure or the human study needs and this scale does not have, in words."""
        missing = []
        if self.benchmark(target.benchmark).source is None:
            missing.append(f"benchmark {self.benchmark(target.benchmark).name}")
        for row in target.rows:
            if row in self.measured and not self.is_baseline(row) and self.teacher_of(row).path is None:
                missing.append(f"teacher {self.teacher_of(row).name}")
            if row in self.runs and (pairs := self.datasets.get(self.runs[row].dataset)) is None:
                continue
            if row in self.runs and self.prompts[pairs.prompts] is None:
                missing.append(f"list of prompts {pairs.prompts}")
        return missing[0] if missing else None

    def _run(self, name: str, entry: RunEntry) -> Run:
        """Build a run. Its own entry overrides `base`, which overrides its stage."""
        said = self.config.base.said() | entry.said()
        stage = said.pop("stage", "regression")
        sizes, kind, where = getattr(self.config, stage), STAGES[stage], f"config.yaml: runs.{name}"
        if (stage == "gan") != ("discriminator" in said):
            problem = "has no discriminator" if stage == "gan" else "is a regression with a discriminator"
            raise UserError(f"{where} {problem}: set `discriminator`, or `stage`")
        if stray := entry.said().keys() - kind.model_fields - set(RunEntry.__annotations__):
            raise UserError(f"{where} is of the stage {stage}, which has no setting '{min(stray)}': leave it out")
        if stray := sizes.said().keys() - kind.model_fields - set(StageEntry.__annotations__):
            raise UserError(f"scales/{self.scale}.yaml: {stage} has no setting '{min(stray)}': leave it out")
        given = {each: value for each, value in (sizes.said() | said).items() if each in kind.model_fields}
        batch, iterations = self._sizes(stage, sizes, said)
        try:
            settings = kind(**given | {"batch_size": batch.size, "iterations": iterations})
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        origin = {each: said.get(each) for each in ("dataset", "teacher", "images", "init")}
        if stage == "consistency" and "dataset" not in entry.said():
            origin["dataset"] = None
        return Run(name, stage, settings, batch, **origin)

    def _sizes(self, stage: str, sizes: StageEntry, said: dict) -> tuple[BatchEntry, int]:
        """The batch and the number of iterations that a run names."""
        where = f"scales/{self.scale}.yaml: {stage}"
        name = said.get("batch", "base")
        batch = _known("batch", name, sizes.batch, where)
        if batch.size % (pieces := batch.nodes * max(1, batch.gpus) * batch.accumulation):
            raise UserError(
                f"{where}: batch.{name} has size {batch.size}, which does not divide among "
                f"{batch.nodes} nodes of {max(1, batch.gpus)} GPUs with {batch.accumulation} micro-batches: choose a "
                f"multiple of {pieces}"
            )
        return batch, _known("number of iterations", said.get("iterations", "base"), sizes.iterations, where)

    def _check_data(self, run: Run) -> None:
        """Consistency Distillation trains on a teacher and on images, every other stage on pairs."""
        where = f"runs.{run.name}"
        if run.stage != "consistency":
            _known("dataset", run.dataset, self.datasets, where)
            if run.teacher or run.images:
                raise UserError(f"config.yaml: {where} learns from pairs: it takes no teacher and no images")
            return
        if run.dataset or not (run.teacher and run.images):
            raise UserError(f"config.yaml: {where} learns without pairs: give it teacher and images, and no dataset")
        space, loss = _known("teacher", run.teacher, self.teachers, where).space, run.settings.loss
        if space != "pixel" or loss not in ("lpips", "mse"):
            raise UserError(f"config.yaml: {where} works in pixels: give it a pixel teacher, and the loss lpips or mse")
        self.benchmark(run.images, f"{where}.images")

    def _check_init(self, run: Run) -> None:
        """A GAN starts from another run; a regression does not."""
        where, gan = f"config.yaml: runs.{run.name}", run.stage == "gan"
        if gan != (run.init is not None):
            problem = "has no `init`: name the run it starts from" if gan else "is a regression: it takes no `init`"
            raise UserError(f"{where} {problem}")
        seen = [run.name]
        while (init := self.runs[seen[-1]].init) is not None:
            _known("run", init, self.runs, f"runs.{seen[-1]}.init")
            if init in seen:
                raise UserError(f"{where} starts from itself: {' -> '.join([*seen, init])}; change an `init`")
            seen.append(init)

    def _check_dataset(self, data: DatasetEntry) -> None:
        """Check a dataset's teacher, solver, prompts and shards, and that it has no more pairs than its whole."""
        _known("teacher", data.teacher, self.teachers, f"datasets.{data.name}")
        _known("list of prompts", data.prompts, self.prompts, f"datasets.{data.name}")
        self.steps(data.teacher, self.teachers[data.teacher].solver)
        if data.shards > data.pairs and not data.part_of:
            raise UserError(f"scales/{self.scale}.yaml: datasets.{data.name} has more shards than pairs: reduce shards")
        if data.part_of and data.pairs > (whole := self.datasets[data.part_of]).pairs:
            raise UserError(
                f"scales/{self.scale}.yaml: datasets.{data.name} has more pairs than {whole.name}, which it is "
                "part of: reduce pairs"
            )


def again(row: str, number: int) -> str:
    """The name of a row's repeat; number 0 is the row itself."""
    return f"{row}-seed{number}" if number else row


def _named(entries: dict[str, Entry]) -> dict:
    return {name: entry.called(name) for name, entry in entries.items()}


def _known(kind: str, name: str, known: dict, where: str):
    """The value of a name. Raises UserError with the nearest known name if the name is unknown."""
    if name not in known:
        place = where if where.startswith("scales/") else f"config.yaml: {where}"
        raise UserError(f"{place}: no {kind} '{name}', {nearest(name, known)}")
    return known[name]
