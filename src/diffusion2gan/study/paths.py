"""The paths of a study's files, all under `work/{scale}`. This module does not import torch."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from diffusion2gan.io import files_below
from diffusion2gan.settings import COST
from diffusion2gan.study.study import Study


@cache
def files(path: str) -> list[str]:
    """The weights and settings of a local model, so that Snakemake notices a change; none for a hub id."""
    path = Path(path.removeprefix("local-dir:"))
    if path.is_file():
        return [str(path)]
    return [str(file) for file in files_below(path) if file.suffix in (".safetensors", ".json")]


def folder_of(files: list[str]) -> str:
    """The folder that holds these files."""
    return str(Path(files[0]).parent)


@dataclass(frozen=True)
class Paths:
    """The paths of a study's files. An input of a job is a path, a list of paths, or an empty list."""

    study: Study

    @property
    def work(self) -> str:
        return f"{self.study.config.work}/{self.study.scale}"

    def unavailable(self, kind: str, name: str) -> str:
        """The input of a job that needs something the scale lacks. Its rule fails and says what to set."""
        return f"{self.work}/unavailable/{kind}/{name}"

    def teacher(self, name: str) -> str | list[str]:
        """The files of a teacher."""
        teacher = self.study.teachers[name]
        if teacher.path is None:
            return self.unavailable("teachers", name)
        return teacher.path if teacher.made else files(teacher.path)

    def prompts(self, dataset: str) -> str | list[str]:
        """The input of the job that prepares a dataset's prompts: none if the scale has the prompts."""
        name = self.study.datasets[dataset].prompts
        return [] if self.study.prompts[name] else self.unavailable("prompts", name)

    def pairs(self, run: str) -> str:
        """The folder of the dataset that holds a run's pairs."""
        return f"{self.work}/pairs/{self.study.dataset_of(run)}"

    def shards(self, dataset: str) -> list[str]:
        """The files of a dataset's pairs, in order."""
        count = self.study.datasets[dataset].shards
        return [f"{self.work}/pairs/{dataset}/shard-{shard:05d}.safetensors" for shard in range(count)]

    def metric(self, trunk: str) -> str:
        """The calibrated metric of a trunk."""
        return f"{self.work}/latentlpips/{trunk}/lpips.safetensors"

    def metric_of(self, run: str) -> str | list[str]:
        """The calibrated metric that a run's loss needs, if any."""
        trunk = self.study.trunk_of(run)
        return self.metric(trunk) if trunk else []

    def latents(self, trunk: str, split: str) -> list[str]:
        """The files of a trunk's labelled latents; none for pixels, which are read from their source."""
        if trunk == "pixel":
            return []
        return self.latent_files(f"{self.work}/latents/{trunk.removeprefix('latent-')}", split)

    def latent_files(self, folder: str, split: str) -> list[str]:
        """The files of a split of labelled latents."""
        return [f"{folder}/{split}-{shard:05d}.safetensors" for shard in range(self.study.latent_shards(split))]

    def student(self, run: str) -> str:
        """The folder of a run's student."""
        return f"{self.work}/runs/{run}/student"

    def model(self, row: str) -> str | None:
        """The model of a row: a student's folder, a teacher's path, or a baseline's."""
        if row in self.study.runs:
            return self.student(row)
        study = self.study
        return study.models[row].pipeline if study.is_baseline(row) else study.teacher_of(row).path

    def model_files(self, row: str) -> str | list[str]:
        """The files of a row's model, so that Snakemake notices a change."""
        if row in self.study.runs:
            return self.student(row)
        if self.study.is_baseline(row):
            return files(self.study.models[row].pipeline)
        return self.teacher(self.study.teacher_of(row).name)

    def real_pictures(self, run: str) -> str:
        """The folder of images that Consistency Distillation trains on."""
        return f"{self.work}/benchmarks/{self.study.benchmark(self.study.runs[run].images).name}/images"

    def samples(self, row: str, benchmark: str) -> list[str]:
        """The manifests of a row's images for a benchmark, one for each job that samples some of them."""
        return self._manifests("samples", row, benchmark, self.study.benchmarks[benchmark].pictures)

    def diversity(self, row: str, benchmark: str) -> list[str]:
        """The manifests of a row's images for DreamDiv, several for each prompt."""
        wanted = self.study.config.evaluation.diversity
        return self._manifests("diversity", row, benchmark, wanted.prompts * wanted.repeats)

    def _manifests(self, kind: str, row: str, benchmark: str, images: int) -> list[str]:
        folder, shards = f"{self.work}/runs/{row}/{kind}/{benchmark}", self.study.sample_shards(row, images)
        return [f"{folder}/shard-{shard:05d}-of-{shards:05d}.json" for shard in range(shards)]

    def compared_pictures(self, row: str, benchmark: str) -> dict[str, list[str]]:
        """The images that a row's metrics need besides its own: {option of score.py: manifests}."""
        metrics, found = self.study.metrics_of(row)[benchmark], {}
        if "dreamsim" in metrics:
            found["teacher_images"] = self.samples(self.study.compared_with(row, benchmark), benchmark)
        if "dreamdiv" in metrics:
            found["diversity"] = self.diversity(row, benchmark)
        return found

    def metrics(self, rows: list[str], benchmark: str | None = None, wanted: list[str] | None = None) -> list[str]:
        """The metrics files of the measured rows and their repeats, on one benchmark or on all.

        For runs also the file of their cost, if any of the `wanted` metrics (default: all of the row) is a cost.
        """
        found = {}
        for row in self.study.repeated(rows):
            for name, metrics in self.study.metrics_of(row).items():
                if benchmark in (None, name):
                    found[f"{self.work}/runs/{row}/metrics/{name}.json"] = None
                    if row in self.study.runs and set(wanted or metrics) & set(COST):
                        found[f"{self.work}/runs/{row}/metrics/cost.json"] = None
        return list(found)

    def timings(self, run: str) -> list[str]:
        """The timings of the jobs that a run depends on: those for its pairs, its metric and that metric's data."""
        latentlpips, names = self.study.config.latentlpips, []
        if self.study.runs[run].dataset:
            dataset = self.study.dataset_of(run)
            names += [f"prepare_prompts/{dataset}", f"index_pairs/{dataset}"]
            names += [f"generate_pairs/{dataset}-{i:05d}" for i in range(self.study.datasets[dataset].shards)]
        trunks = {self.study.trunk_of(each) for each in self.study.lineage(run)} - {None}
        for trunk in sorted(trunks - latentlpips.metrics.keys()):
            names.append(f"calibrate_lpips/{trunk}")
            if trunk not in latentlpips.weights:
                names.append(f"train_vgg/{trunk}")
                latents = [Path(file).stem for split in ("train", "val") for file in self.latents(trunk, split)]
                names += [f"encode_latents/{trunk.removeprefix('latent-')}-{name}" for name in latents]
        return [f"{self.work}/timings/{name}.tsv" for name in names]

    def shipped(self) -> list[str]:
        """The weights under assets/ that this scale starts from."""
        config = self.study.config
        paths = [teacher.path for teacher in self.study.teachers.values()]
        paths += [*config.latentlpips.weights.values(), config.evaluation.clip.removeprefix("local-dir:")]
        return [path for path in paths if path and path.startswith("assets/")]
