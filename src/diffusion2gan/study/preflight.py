"""What is refused before the first job: a benchmark that is not there, and more files than the disk has room for."""

from collections.abc import Iterable
from pathlib import Path

from diffusion2gan.data import coco
from diffusion2gan.data.sources import SOURCES
from diffusion2gan.errors import UserError
from diffusion2gan.io import check_disk
from diffusion2gan.study.cost import output_bytes
from diffusion2gan.study.study import Study


def check(study: Study, folder: Path, jobs: Iterable[tuple[str, dict]], fetched: Iterable[str]) -> None:
    """Raise UserError if a benchmark is missing, or if `folder` has no room for what the jobs, each a rule with its
    wildcards, will leave there together. `fetched` are the files that a job fetches.
    """
    jobs = list(jobs)
    for rule, wildcards in jobs:
        if rule == "make_benchmark":
            _check_benchmark(study, wildcards["benchmark"], fetched)
    needed = sum(output_bytes(study, rule, wildcards) for rule, wildcards in jobs)
    check_disk(folder, needed, "what is to be made (`snakemake -- results/plan.md` says what)")


def _check_benchmark(study: Study, name: str, fetched: Iterable[str]) -> None:
    benchmark, hint = study.benchmarks[name], f"set `benchmarks` in scales/{study.scale}.yaml"
    source = benchmark.source
    if benchmark.references and source not in (*SOURCES, *fetched) and not Path(source).exists():
        raise UserError(f"there are no pictures at {source}: {hint}")
    if source and Path(source).name in coco.SIZES and (lacking := coco.missing(Path(source))):
        raise UserError(f"there are not {lacking}, or {hint}")
