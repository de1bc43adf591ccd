"""Checks before the first job: benchmarks and DreamSim's weights exist, jobs fit a GPU, the disk has enough space."""

from collections.abc import Iterable
from pathlib import Path

from diffusion2gan.data import coco
from diffusion2gan.data.sources import SOURCES
from diffusion2gan.errors import UserError
from diffusion2gan.io import check_disk
from diffusion2gan.study.cost import output_bytes
from diffusion2gan.study.study import Study


def check(study: Study, folder: Path, jobs: Iterable[tuple[str, dict]], fetched: Iterable[str]) -> None:
    """Check what the planned `jobs`, rules with their wildcards, need. `fetched` are the files that a job can download.

    Raises UserError if the tracker's package, a benchmark or DreamSim's weights are missing, if a job exceeds the
    memory of a GPU, or if the outputs of all jobs need more space than the disk of `folder` has.
    """
    jobs = list(jobs)
    if study.config.report_to != "none":
        from diffusion2gan.training.watch import check_tracker  # here, because it imports trainings' libraries

        check_tracker(study.config.report_to)
    for rule, wildcards in jobs:
        if rule == "make_benchmark":
            _check_benchmark(study, wildcards["benchmark"], fetched)
    scored = [study.metrics_of(wildcards["run"])[wildcards["benchmark"]] for rule, wildcards in jobs if rule == "score"]
    if any({"dreamsim", "dreamdiv"} & set(metrics) for metrics in scored):
        _check_dreamsim(study.config.evaluation.dreamsim)
    if study.config.gpu_memory:
        from diffusion2gan.study.memory import Memory  # here, because importing the networks takes seconds

        Memory(study, folder / "plan" / "memory.json").check(jobs)
    needed = sum(output_bytes(study, rule, wildcards) for rule, wildcards in jobs)
    check_disk(folder, needed, "the planned output (`snakemake --cores 1 -- results/plan.md` estimates it)")


def _check_benchmark(study: Study, name: str, fetched: Iterable[str]) -> None:
    benchmark, hint = study.benchmarks[name], f"set `benchmarks` in scales/{study.scale}.yaml"
    source = benchmark.source
    if benchmark.references and source not in (*SOURCES, *fetched) and not Path(source).exists():
        raise UserError(f"there are no images at {source}: {hint}")
    if source and Path(source).name in coco.SIZES and (lacking := coco.missing(Path(source))):
        raise UserError(f"missing: {lacking}, or {hint}")


def _check_dreamsim(spec: str) -> None:
    if spec.startswith("local-dir:"):
        return
    from diffusion2gan.metrics import dreamsim  # imports open_clip, which is slow

    if lacking := dreamsim.missing(spec):
        raise UserError(
            f"DreamSim's '{spec}' lacks {', '.join(lacking)} in {dreamsim.CACHE}, and a job without a network cannot "
            f"fetch them: {dreamsim.hint(spec)}"
        )
