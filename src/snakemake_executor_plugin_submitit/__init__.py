"""Snakemake executor that submits every job through submitit: `--executor submitit`.

One job of the workflow is one submitit job, which runs Snakemake again for that job alone. Every
start of Snakemake imports this module, so submitit itself is imported only when there is a job.
No `from __future__ import annotations` here: Snakemake reads the types of the settings at run time.
"""

import subprocess
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_submitit.params import CLUSTERS, parameters

STATUS_SECONDS = 60  # submitit's own default looks at a dead job only every ten minutes


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Settings on the command line, each as --submitit-NAME."""

    cluster: str = field(
        default="auto",
        metadata={"help": f"Where submitit runs the jobs: {', '.join(CLUSTERS)}.", "env_var": False, "required": False},
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=1,
)


class Executor(RemoteExecutor):
    """Submit, watch and cancel jobs with `submitit.AutoExecutor`."""

    def __post_init__(self):
        from submitit import AutoExecutor, SlurmJob
        from submitit.slurm.slurm import SlurmInfoWatcher

        wanted = self.workflow.executor_settings.cluster
        if wanted not in CLUSTERS:
            raise WorkflowError(f"no cluster '{wanted}': set --submitit-cluster to one of {', '.join(CLUSTERS)}")
        self.cluster = AutoExecutor.which() if wanted == "auto" else wanted
        self.folder = Path(".snakemake") / "submitit"
        if self.cluster == "local":
            # a local job's name is its process id, which may have been another job's before
            self.folder /= f"local-{uuid.uuid4().hex[:8]}"
        SlurmJob.watcher = SlurmInfoWatcher(delay_s=STATUS_SECONDS)

    def run_job(self, job: JobExecutorInterface) -> None:
        """Submit one job; its logs are in .snakemake/submitit/RULE/."""
        from submitit import AutoExecutor

        executor = AutoExecutor(self.folder / job.name, cluster=self.cluster)
        try:
            executor.update_parameters(**parameters(job.name, dict(job.resources), job.threads, self.cluster))
            submitted = executor.submit(subprocess.check_call, ["bash", "-c", self.format_job_exec(job)])
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            raise WorkflowError(f"submitit cannot submit {job.name} to {self.cluster}: {error}") from error
        info = SubmittedJobInfo(job, external_jobid=submitted.job_id, aux={"submitted": submitted})
        self.report_job_submission(info)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report every job that has ended; yield those that go on."""
        from submitit.core.utils import pickle_load

        for info in active_jobs:
            submitted = info.aux["submitted"]
            result = submitted.paths.result_pickle
            async with self.status_rate_limiter:
                ended = submitted.done() or result.exists()
            if not ended:
                yield info
            elif result.exists() and pickle_load(result)[0] == "success":
                self.report_job_success(info)
            else:
                logs = [str(path) for path in (submitted.paths.stdout, submitted.paths.stderr)]
                self.report_job_error(info, msg=f"submitit job {submitted.job_id} failed. ", aux_logs=logs)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel what runs, when the workflow is interrupted."""
        for info in active_jobs:
            info.aux["submitted"].cancel(check=False)
