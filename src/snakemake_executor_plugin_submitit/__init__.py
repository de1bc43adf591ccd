"""Snakemake executor that submits every job through submitit: `--executor submitit`.

Each job of the workflow becomes one submitit job, which runs Snakemake again for that job alone. Snakemake
imports this module at every start, so submitit itself is imported only when there is a job.
No `from __future__ import annotations` here: Snakemake reads the types of the settings at run time.
"""

import asyncio
import os
import pickle
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_interface_common.exceptions import ApiError  # shown as one line, without a traceback
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from diffusion2gan.errors import nearest
from snakemake_executor_plugin_submitit import contact
from snakemake_executor_plugin_submitit.checks import check_cluster, check_parameters, unwritable
from snakemake_executor_plugin_submitit.ledger import Entry, Ledger, work
from snakemake_executor_plugin_submitit.params import CLUSTERS, KNOWN, check_resources, parameters
from snakemake_executor_plugin_submitit.payload import Command
from snakemake_executor_plugin_submitit.states import GONE, State, ask, in_words

LOOK_SECONDS = 2  # between checks of the jobs' result files; SLURM is asked far less often
SAVING = 0.8  # share of signal_delay in which a job saves; the rest is for requeueing it
GONE_LOOKS = 3  # a job that SLURM no longer knows may have a result that is on its way through the file system


def _setting(default, text: str):
    return field(default=default, metadata={"help": text, "env_var": False, "required": False})


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Settings on the command line, each as --submitit-NAME."""

    cluster: str = _setting("auto", f"Where submitit runs the jobs: {', '.join(CLUSTERS)}.")
    folder: Path = _setting(Path(".snakemake/submitit"), "Folder of submitit's scripts and logs, seen by all nodes.")
    poll_seconds: int = _setting(20, "Seconds between queries to SLURM, each about all jobs.")
    array_width: int = _setting(500, "Most jobs of one rule in one array; 1: no arrays.")
    signal_delay: int = _setting(
        120, "Seconds before its time limit at which a job with `requeues` is warned, to save."
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
    """Submit, watch, recover and cancel jobs with `submitit.AutoExecutor`."""

    def __post_init__(self):
        from submitit import AutoExecutor

        settings = self.workflow.executor_settings
        if settings.cluster not in CLUSTERS:
            choices = ", ".join(CLUSTERS)
            raise ApiError(f"no cluster '{settings.cluster}': set --submitit-cluster to one of {choices}")
        for name in ("poll_seconds", "array_width", "signal_delay"):
            if getattr(settings, name) < 1:
                raise ApiError(f"--submitit-{name.replace('_', '-')} must be at least 1")
        self.settings = settings
        self.cluster = AutoExecutor.which() if settings.cluster == "auto" else settings.cluster
        self.folder = Path(settings.folder).absolute()
        self.ledger = Ledger(self.folder / "ledger")
        self.watched: dict[str, SubmittedJobInfo] = {}
        self.missed: dict[str, int] = defaultdict(int)
        self.next_poll = 0.0
        self.next_seconds_between_status_checks = min(LOOK_SECONDS, settings.poll_seconds)
        given = self.workflow.resource_settings
        for rule in [*given.overwrite_resources, *given.overwrite_threads]:
            if not self.workflow.is_rule(rule):
                rules = [each.name for each in self.workflow.rules]
                self.logger.warning(f"warning: set-resources or set-threads: no rule '{rule}', {nearest(rule, rules)}")
        planned = [job for job in self.dag.needrun_jobs() if not job.is_local]
        for job in planned:
            check_resources(job.name, dict(job.resources), self.workflow.global_resources)
        if self.cluster == "slurm":
            # this process may itself run in a SLURM job, whose variables must not reach its own jobs
            for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
                del os.environ[name]
            check_cluster(self.folder)
            for chosen in _distinct(self._parameters(job) for job in planned if _known(job)):
                check_parameters(chosen, self.folder)
        else:
            # a local job's id is its process id, which an earlier job may have had
            self.folder /= f"local-{uuid.uuid4().hex[:8]}"

    def run_job(self, job: JobExecutorInterface) -> None:
        self.run_jobs([job])

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Submit ready jobs: those of one rule with equal parameters become one array. Logs go to FOLDER/RULE/."""
        for job in jobs:
            self.run_job_pre(job)
        alike = defaultdict(list)
        for job in self._find_again(jobs) if self.cluster == "slurm" else jobs:
            try:
                alike[job.name, repr(self._parameters(job))].append(job)
            except ApiError as error:  # of resources that were not known before the job's inputs existed
                self._fail(SubmittedJobInfo(job), f"{error}. ", [])
        width = self.settings.array_width if self.cluster == "slurm" else 1
        for same in alike.values():
            for start in range(0, len(same), width):
                self._submit(same[start : start + width])

    def _parameters(self, job: JobExecutorInterface) -> dict:
        check_resources(job.name, dict(job.resources), self.workflow.global_resources)
        return parameters(job.name, dict(job.resources), job.threads, self.cluster, self.settings.signal_delay)

    def _submit(self, jobs: list[JobExecutorInterface]) -> None:
        """Submit jobs with equal parameters. A job that cannot be submitted counts as failed and may be retried."""
        from submitit import AutoExecutor

        requeues = int(jobs[0].resources.get("requeues", 0)) if self.cluster == "slurm" else 0
        grace = int(SAVING * self.settings.signal_delay)
        try:
            executor = AutoExecutor(self.folder / jobs[0].name, cluster=self.cluster, slurm_max_num_timeout=requeues)
            chosen, mark = self._parameters(jobs[0]), uuid.uuid4().hex[:12]
            if self.cluster == "slurm":
                chosen["slurm_comment"] = f"{chosen.get('slurm_comment', '')} {mark}".strip()
            executor.update_parameters(**chosen, slurm_array_parallelism=len(jobs))
            commands = [Command(self.format_job_exec(job), requeues > 0, grace) for job in jobs]
            submitted = self._contact(executor, commands, mark)
        except (RuntimeError, OSError, ValueError, subprocess.CalledProcessError) as error:
            for job in jobs:
                why = f"submitit cannot submit {job.name} to {self.cluster}: {_said(error)}. "
                self._fail(SubmittedJobInfo(job), why, [])
            return
        for job, made in zip(jobs, submitted, strict=True):
            if self.cluster == "slurm":
                self._record(job, made.job_id)
            self._watch(job, made)

    def _contact(self, executor, commands: list[Command], mark: str) -> list:
        """Submit; while SLURM is busy, wait and try again.

        SLURM may have taken the jobs although sbatch failed. They carry the `mark` and wait a minute for their files.
        If we find them, we write these files. If not, they end and have done nothing. So no job runs twice.
        """
        for wait in (*contact.WAITS, None):
            try:
                return executor.submit_array(commands)
            except RuntimeError as error:
                if wait is None or not contact.temporary(str(error)):
                    raise
                self.logger.warning(f"{_said(error)}: SLURM is busy, trying to submit again")
            if number := contact.find(mark):
                return contact.adopt(executor, number, commands)
            time.sleep(wait)

    def _record(self, job: JobExecutorInterface, job_id: str) -> None:
        try:
            self.ledger.write(job, job_id, self.folder / job.name)
        except OSError as error:
            self.logger.warning(f"job {job_id} is not recorded ({error.strerror}): do not kill this process")

    def _watch(self, job: JobExecutorInterface, submitted) -> None:
        info = SubmittedJobInfo(job, external_jobid=submitted.job_id, aux={"submitted": submitted})
        self.watched[submitted.job_id] = info
        self.report_job_submission(info)

    def _find_again(self, jobs: list[JobExecutorInterface]) -> list[JobExecutorInterface]:
        """Watch jobs of an earlier process that still run or have succeeded; return the jobs still to submit."""
        from submitit import SlurmJob

        entries = {job: entry for job in jobs if (entry := self._recorded(job))}
        states = ask(entry.job_id for entry in entries.values()) if entries else {}
        new = [job for job in jobs if job not in entries]
        for job, entry in entries.items():
            submitted = SlurmJob(folder=entry.folder, job_id=entry.job_id)
            running = states.get(entry.job_id, State("RUNNING")).alive
            if entry.work == work(job) and (running or _result(submitted) == "success" and _made(job)):
                self.logger.info(f"{job.name}: found job {entry.job_id}, which an earlier start submitted")
                self._watch(job, submitted)
                continue
            if running:
                if why := contact.cancel([entry.job_id]):
                    why = f"job {entry.job_id} of an earlier start has other settings and cannot be cancelled: {why}. "
                    self._fail(SubmittedJobInfo(job), why, [])
                    continue
                self.logger.info(f"{job.name}: cancelled job {entry.job_id} of an earlier start: its settings differ")
            self.ledger.remove(job)
            new.append(job)
        return new

    def _recorded(self, job: JobExecutorInterface) -> Entry | None:
        """The job of an earlier process; None, with a warning, if its record is damaged."""
        try:
            return self.ledger.read(job)
        except (OSError, ValueError, TypeError) as error:
            self.logger.warning(
                f"{job.name}: the record of an earlier start cannot be read ({_said(error)}): "
                "if `squeue --me` shows a job of that start, cancel it"
            )
            return None

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report jobs that have ended; yield those that still run."""
        if not active_jobs:  # also before `__post_init__` has finished
            return
        going = []
        for info in active_jobs:
            if _result(info.aux["submitted"]) == "success":
                self._succeed(info)
            else:
                going.append(info)
        if self.cluster == "local":
            states = {info.external_jobid: _local_state(info.aux["submitted"]) for info in going}
        elif going and time.monotonic() >= self.next_poll:
            states = await asyncio.to_thread(ask, [info.external_jobid for info in going])
            self.next_poll = time.monotonic() + self.settings.poll_seconds
        else:
            states = {}
        for info in going:
            state = states.get(info.external_jobid, State("RUNNING"))
            result = _result(info.aux["submitted"])
            self.missed[info.external_jobid] = self.missed[info.external_jobid] + 1 if state.name == GONE else 0
            if result == "success" or state.name == "COMPLETED":
                self._succeed(info)
            elif info.external_jobid not in states or state.alive:
                yield info  # also a job that recorded an error and was requeued by SLURM
            elif 0 < self.missed[info.external_jobid] < GONE_LOOKS and result is None:
                yield info
            else:
                self._report_failure(info, state)

    def _succeed(self, info: SubmittedJobInfo) -> None:
        self._forget(info)
        self.report_job_success(info)

    def _report_failure(self, info: SubmittedJobInfo, state: State) -> None:
        """Report why a job failed and where its logs are."""
        paths = info.aux["submitted"].paths
        if state.name == GONE and os.path.exists(paths.result_pickle):
            state = State("FAILED")
        message = f"Job {info.external_jobid} {in_words(state, dict(info.job.resources))}. "
        logs = [path for path in (paths.stdout, paths.stderr) if os.path.exists(path)]
        if not logs and self.cluster == "slurm":
            message += f"It left nothing in {paths.folder}: is that folder shared between the nodes? "
        if why := unwritable(paths.folder):
            message += f"Nothing can be written to {paths.folder} now: {why}. "
        self._forget(info)
        self._fail(info, message, logs)

    def _fail(self, info: SubmittedJobInfo, message: str, logs: list[Path]) -> None:
        if info.job.is_group():  # Snakemake shows no message for a group
            self.logger.error(message)
        self.report_job_error(info, msg=message, aux_logs=[str(path) for path in logs])

    def _forget(self, info: SubmittedJobInfo) -> None:
        self.watched.pop(info.external_jobid, None)
        self.missed.pop(info.external_jobid, None)
        try:
            self.ledger.remove(info.job)
        except OSError as error:
            self.logger.warning(f"the record of job {info.external_jobid} is still there ({error}): delete it")

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all running jobs with one `scancel` when the workflow is interrupted."""
        # `active_jobs` is empty while a status check is in progress
        infos = list(self.watched.values())
        if self.cluster == "slurm" and infos and (why := contact.cancel(list(self.watched))):
            self.logger.error(f"the jobs still run ({why}): cancel them with scancel {' '.join(self.watched)}")
            return  # their records stay, so that the next start finds them
        for info in infos:
            if self.cluster == "local":
                info.aux["submitted"].cancel(check=False)
            self._forget(info)


def _distinct(several) -> list[dict]:
    return list({repr(one): one for one in several}.values())


def _known(job: JobExecutorInterface) -> bool:
    """Whether what a job asks of SLURM is known before its inputs exist; Snakemake derives disk space from these."""
    return "<TBD>" not in [str(value) for name, value in dict(job.resources).items() if name in KNOWN]


def _made(job: JobExecutorInterface) -> bool:
    return all(os.path.exists(path) for path in job.output)


def _result(submitted) -> str | None:
    """The result that a job has recorded: "success", "error", or None if there is none yet, or none that is readable.

    A file on a shared disk may be stale, or not whole: the next look decides.
    """
    from submitit.core.utils import pickle_load

    try:
        return pickle_load(submitted.paths.result_pickle)[0]
    except (OSError, EOFError, pickle.UnpicklingError):
        return None


def _said(error: Exception) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split()) or repr(error)


def _local_state(submitted) -> State:
    return State("FAILED" if submitted.done() else "RUNNING")
