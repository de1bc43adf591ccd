"""The study: its runs, datasets, tables and figures, and what each of them needs.

Built from a valid configuration (`diffusion2gan.study.config`). It knows names and settings, but
neither paths of results nor Snakemake. It does not import torch, because every job of the workflow reads it.
"""

from dataclasses import dataclass, field
from functools import cached_property

from diffusion2gan.study.checks import check
from diffusion2gan.study.entries import (
    BenchmarkEntry,
    Configuration,
    DatasetEntry,
    FigureEntry,
    HumanStudyEntry,
    ModelEntry,
    PromptsEntry,
    TableEntry,
    TeacherEntry,
)
from diffusion2gan.study.names import again, known, named
from diffusion2gan.study.runs import Run, build, repeat


@dataclass(frozen=True)
class Study:
    """The whole study at one scale. Raises UserError for a name that is unknown or does not fit."""

    config: Configuration = field(repr=False)

    def __post_init__(self):
        check(self)

    @cached_property
    def teachers(self) -> dict[str, TeacherEntry]:
        """The teachers by name. The path of one that the workflow makes is that of its output."""
        folder = f"{self.config.work}/{self.scale}/teachers"
        return {
            name: entry.called(name, **({"path": f"{folder}/{name}"} if entry.made else {}))
            for name, entry in self.config.teachers.items()
        }

    @cached_property
    def datasets(self) -> dict[str, DatasetEntry]:
        """The datasets by name. A part has the teacher, guidance, prompts and shards of the whole."""
        entries = self.config.datasets
        wholes = {name: entry for name, entry in entries.items() if not entry.part_of}
        found = {}
        for name, entry in entries.items():
            changes = {}
            if entry.part_of:
                whole = known("whole dataset", entry.part_of, wholes, f"datasets.{name}.part_of")
                changes = {each: getattr(whole, each) for each in ("teacher", "guidance", "prompts", "shards")}
            found[name] = entry.called(name, **changes)
        return found

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The runs and their repeats by name, with all their settings."""
        runs = {name: build(self.config, name) for name in self.config.runs}
        repeats = [repeat(run, number) for number in self.repeats for run in runs.values()]
        return runs | {run.name: run for run in repeats}

    @cached_property
    def models(self) -> dict[str, ModelEntry]:
        """The rows that are not trained here by name, and the repeats of those that are sampled."""
        entries = self.config.models
        return named(entries) | {
            again(name, number): entry.called(again(name, number))
            for number in self.repeats
            for name, entry in entries.items()
            if entry.measured
        }

    @cached_property
    def benchmarks(self) -> dict[str, BenchmarkEntry]:
        return named(self.config.benchmarks)

    @cached_property
    def tables(self) -> dict[str, TableEntry]:
        return named(self.config.tables)

    @cached_property
    def figures(self) -> dict[str, FigureEntry]:
        return named(self.config.figures)

    @cached_property
    def human_study(self) -> HumanStudyEntry:
        """The human study, without comparisons of a row that this scale does not measure."""
        measured = {
            row: [other for other in others if {row, other} <= set(self.measured)]
            for row, others in self.config.human_study.comparisons.items()
        }
        return self.config.human_study.called("human_study", comparisons=measured)

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
        return known("benchmark", name, self.benchmarks, where)

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
        """How a row is sampled: a student in its steps, a teacher with its solver, a baseline as its entry says."""
        if row in self.runs:
            return {"scheduler": "student", "steps": getattr(self.runs[row].settings, "steps", 1), "guidance": 0}
        model = self.models[row]
        if not self.is_baseline(row):
            steps = model.steps or self.steps(model.teacher, model.solver)
            spacing = self.teachers[model.teacher].spacing
            return {"scheduler": model.solver, "steps": steps, "spacing": spacing, "guidance": model.guidance}
        names = ("unet", "scheduler", "spacing", "prediction", "timesteps", "steps", "guidance", "resolution")
        return {name: value for name in names if (value := getattr(model, name)) not in (None, [])}

    def reimplemented(self, rows: list[str]) -> list[str]:
        """The rows of other people's methods that are trained here."""
        trained = (self.runs[row] for row in rows if row in self.runs)
        return [
            run.name
            for run in trained
            if run.stage not in ("regression", "gan") or getattr(run.settings, "from_scratch", False)
        ]

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
        return known("solver", solver, self.teachers[teacher].steps, f"teachers.{teacher}.steps")

    def sample_shards(self, row: str, images: int) -> int:
        """The number of jobs that sample `images` images of a row.

        A student of several steps has the jobs of its teacher.
        """
        most = None
        if row in self.models:
            most = self.models[row].shard
        elif getattr(self.runs[row].settings, "steps", 1) > 1:
            rows = [each for each in self.models.values() if each.teacher == self.teacher_of(row).name]
            most = min((each.shard for each in rows if each.shard), default=None)
        return -(-images // max(most, self.config.evaluation.batch_size)) if most else 1

    def latent_shards(self, split: str) -> int:
        """The number of files with the labelled latents of a split."""
        latents = self.config.latentlpips.latents
        return -(-getattr(latents, split) // latents.shard)

    def trunk_of(self, run: str) -> str | None:
        """The LPIPS trunk of a run's loss, or of ADD's features: `pixel`, `latent-TEACHER`, or None."""
        loss, teacher = self.runs[run].settings.loss, self.teacher_of(run)
        if loss == "lpips":
            return "pixel"
        latent = loss in ("latent_lpips", "e_latent_lpips") or self.runs[run].stage == "add"
        return f"latent-{teacher.name}" if latent else None

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
        """In words, the first thing that a table, a figure or the human study needs and this scale lacks; else None."""
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
