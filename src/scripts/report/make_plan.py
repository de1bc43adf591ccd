"""Estimate the cost of a study before it runs: results/plan.csv, and results/plan.md to show to others."""

import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

from diffusion2gan.io import atomic, write_text
from diffusion2gan.study import cli, config, cost, plan
from diffusion2gan.study.cost import Job
from diffusion2gan.study.study import Study


@dataclass
class Arguments:
    config: Path
    out: Path
    readable: Path
    targets: list[str] = field(default_factory=list)


def main(args: Arguments):
    study = Study(config.read(args.config))
    jobs = planned(args.targets, args.config)
    counted = {}
    if study.config.gpu_memory:
        from diffusion2gan.study.memory import Memory  # here, because importing the networks takes seconds

        memory = Memory(study, args.config.with_name("memory.json"))
        memory.check((job.rule, job.wildcards) for job in jobs)
        counted = {"gib": memory.gib}
    table = cost.plan(study, jobs, **counted)
    text = plan.markdown(study, table, args.targets, shutil.disk_usage(args.config.parent).free)
    with atomic(args.out) as temporary:
        table.round(4).to_csv(temporary, index=False)
    write_text(args.readable, text)
    print(text)


def planned(
    targets: list[str],
    config: Path,
    snakefile: Path = Path("Snakefile"),
    hardware: ResourceSettings = ResourceSettings(),  # noqa: B008, it cannot be changed
) -> list[Job]:
    """The jobs that make `targets` from nothing under a complete configuration, in an order in which they can run.

    `hardware` are the resources that a profile states. Rules without output, which only collect files, are left out.
    """
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api, redirect_stdout(StringIO()):
        workflow = api.workflow(
            resource_settings=hardware,
            config_settings=ConfigSettings(configfiles=[config]),
            snakefile=snakefile,
        )
        workflow.dag(DAGSettings(targets=set(targets), forceall=True)).printd3dag()
        # Private: the public printdag, printd3dag and summary show jobs without all wildcards and without benchmark
        # files, and a dry run only logs them. A test says what is missing after an upgrade.
        levels = workflow._workflow.dag.toposorted()
    return [
        Job(
            job.rule.name,
            dict(job.wildcards_dict),
            Path(job.benchmark) if job.benchmark else None,
            dict(job.resources),
            job.threads,
        )
        for level in levels
        for job in sorted(level, key=lambda job: (job.rule.name, list(job.output)))
        if job.output
    ]


if __name__ == "__main__":
    cli.run(main)
