"""The jobs that Snakemake would run, from its own graph of jobs.

Separate from the rest of the study, since it imports Snakemake.
"""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

from diffusion2gan.study.cost import Job


def planned(targets: list[str], config: Path, snakefile: Path = Path("Snakefile")) -> list[Job]:
    """The jobs that make targets from nothing, under a whole configuration; targets that only gather files left out."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api, redirect_stdout(StringIO()):
        workflow = api.workflow(
            resource_settings=ResourceSettings(),
            config_settings=ConfigSettings(configfiles=[config]),
            snakefile=snakefile,
        )
        workflow.dag(DAGSettings(targets=set(targets), forceall=True)).printd3dag()
        jobs = list(
            workflow._workflow.dag.jobs
        )  # Snakemake prints its graph without wildcards, and has no other way to it
    return [
        Job(job.rule.name, dict(job.wildcards_dict), Path(job.benchmark) if job.benchmark else None)
        for job in jobs
        if job.output
    ]
