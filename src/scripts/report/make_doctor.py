"""Look at all that a scale needs, before the first job: results/doctor.md."""

import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from itertools import chain
from pathlib import Path

from snakemake.cli import parse_args
from snakemake.settings.types import ResourceSettings
from snakemake_interface_common.exceptions import ApiError

from diffusion2gan.io import write_text
from diffusion2gan.study import cli, config, cost, doctor
from diffusion2gan.study.cost import Job
from diffusion2gan.study.doctor.finding import SOUND, UNKNOWN, WRONG, Answer, Check, findings, markdown
from diffusion2gan.study.paths import Paths
from diffusion2gan.study.study import Study
from scripts.report.make_plan import planned
from snakemake_executor_plugin_submitit import ExecutorSettings
from snakemake_executor_plugin_submitit.checks import check_cluster, check_parameters
from snakemake_executor_plugin_submitit.params import check_resources, parameters

ASKED = ("nodes", "gpus", "mem_mb", "runtime", "slurm_partition", "slurm_account", "slurm_constraint", "slurm_qos")


@dataclass
class Arguments:
    config: Path
    out: Path
    targets: list[str] = field(default_factory=list)
    profile: str = "slurm"


def main(args: Arguments):
    study = Study(config.read(args.config))
    _, profile = parse_args(["--profile", args.profile])
    hardware = ResourceSettings(
        default_resources=profile.default_resources,
        overwrite_resources=profile.set_resources,
        overwrite_threads=profile.set_threads,
    )
    jobs = planned(args.targets, args.config, hardware=hardware)
    needed = sum(cost.output_bytes(study, job.rule, job.wildcards) for job in jobs)
    checks = chain(
        doctor.checks(study, needed, Path(Paths(study).work)),
        of_slurm(jobs, settings_of(profile)),
    )
    found = []
    for finding in findings(checks):
        print(f"{finding.state}: {finding.subject}, {finding.place}: {finding.said}", flush=True)
        found.append(finding)
    write_text(args.out, markdown(study, found))


def settings_of(profile: Namespace) -> ExecutorSettings:
    """The executor's settings in a profile."""
    stated = {each.name: getattr(profile, f"submitit_{each.name}") for each in fields(ExecutorSettings)}
    return ExecutorSettings(**{name: value for name, value in stated.items() if value is not MISSING})


def of_slurm(jobs: list[Job], settings: ExecutorSettings) -> Iterator[Check]:
    """The checks of SLURM: does it answer, and would it take each kind of job?"""
    folder = Path(settings.folder).absolute()
    if shutil.which("sbatch") is None:
        yield "SLURM", "this machine", lambda: (UNKNOWN, "there is no sbatch: run this where jobs are submitted")
        return
    answers = answer(partial(check_cluster, folder), "it answers")
    yield "SLURM", "this machine", lambda: answers
    kinds = {}
    for job in jobs if answers[0] == SOUND else []:
        stated = {name: value for name, value in job.resources.items() if str(value) != "<TBD>"}
        kinds.setdefault((job.rule, repr(stated), job.threads), (job, stated))
    for job, stated in kinds.values():
        asked = ", ".join(f"{name}={stated[name]}" for name in ASKED if stated.get(name))
        try_it = partial(try_job, job, stated, settings)
        yield f"jobs of {job.rule}", asked, partial(answer, try_it, "SLURM would take them")


def try_job(job: Job, stated: dict, settings: ExecutorSettings) -> None:
    """Ask SLURM whether it could ever run such a job. Raises ApiError if not."""
    check_resources(job.rule, stated)
    wanted = parameters(job.rule, stated, job.threads, "slurm", settings.signal_delay)
    check_parameters(wanted, Path(settings.folder).absolute())


def answer(check: Callable[[], None], good: str) -> Answer:
    """What a check of the executor says, which raises ApiError."""
    try:
        check()
    except ApiError as error:
        return WRONG, str(error)
    return SOUND, good


if __name__ == "__main__":
    cli.run(main)
