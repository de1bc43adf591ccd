"""The executor's decisions at each status check, without SLURM: what it reports, finds again and cancels."""

import asyncio
import errno
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import submitit
from submitit import SlurmJob
from submitit.core.utils import cloudpickle_dump

import snakemake_executor_plugin_submitit as plugin
from snakemake_executor_plugin_submitit import Executor, ExecutorSettings
from snakemake_executor_plugin_submitit.ledger import Ledger
from snakemake_executor_plugin_submitit.states import GONE, State


@dataclass(eq=False)
class Job:
    """The parts of a Snakemake job that the executor reads."""

    name: str
    output: list[str]
    shellcmd: str = "make it"
    resources: dict = field(default_factory=dict)
    threads: int = 1
    jobs: tuple = ()
    is_local: bool = False

    def is_group(self) -> bool:
        return bool(self.jobs)


@pytest.fixture
def executor(tmp_path, monkeypatch):
    """An executor with a fake SLURM: `says` is SLURM's answer, `reported` is what Snakemake receives."""
    monkeypatch.chdir(tmp_path)
    made = object.__new__(Executor)
    made.cluster, made.folder, made.settings = "slurm", tmp_path / "folder", ExecutorSettings()
    made.ledger, made.watched, made.missed, made.next_poll = Ledger(tmp_path / "ledger"), {}, defaultdict(int), 0.0
    made.says, made.reported, made.called, made.submitted, made.refuses, made.waited = {}, [], [], [], "", []
    made.logged = []
    made.logger = SimpleNamespace(**dict.fromkeys(("info", "warning", "error"), made.logged.append))
    made.run_job_pre = lambda job: None
    made.report_job_submission = lambda info: made.reported.append(("submitted", info.external_jobid))
    made.report_job_success = lambda info: made.reported.append(("success", info.external_jobid))
    made.report_job_error = lambda info, msg, aux_logs: made.reported.append(("error", msg))
    made.format_job_exec = lambda job: "true"
    made.workflow = SimpleNamespace(global_resources={})
    monkeypatch.setattr(plugin, "ask", lambda jobs: {job: made.says[job] for job in jobs if job in made.says})

    def run(command, **_):
        made.called.append(command)
        return subprocess.CompletedProcess(command, bool(made.refuses), "", made.refuses)

    monkeypatch.setattr(plugin.subprocess, "run", run)
    monkeypatch.setattr(plugin.time, "sleep", lambda seconds: made.waited.append(seconds))
    return made


def submit(executor: Executor, job: Job, number: str) -> SlurmJob:
    submitted = SlurmJob(folder=executor.folder / job.name, job_id=number)
    executor._record(job, number)
    executor._watch(job, submitted)
    return submitted


def ends(submitted: SlurmJob, result: str) -> None:
    submitted.paths.folder.mkdir(parents=True, exist_ok=True)
    cloudpickle_dump((result, None), submitted.paths.result_pickle)


def look(executor: Executor) -> list[str]:
    """One status check of all jobs that asks SLURM; returns the jobs that still run."""
    executor.next_poll = 0.0

    async def going():
        return [info.external_jobid async for info in executor.check_active_jobs(list(executor.watched.values()))]

    return asyncio.run(going())


def test_success_is_seen_without_asking_slurm(executor):
    ends(submit(executor, Job("score", ["a"]), "1"), "success")
    assert look(executor) == [] and executor.reported[-1] == ("success", "1")
    assert not executor.watched and not list(executor.ledger.folder.iterdir())


def test_a_failure_is_explained_with_its_resources(executor):
    submit(executor, Job("score", ["a"], resources={"mem_mb": 900}), "1")
    executor.says = {"1": State("OUT_OF_MEMORY", "0:125", "node1")}
    assert look(executor) == []
    kind, message = executor.reported[-1]
    assert kind == "error" and message.startswith("Job 1 ran out of memory on node1: it had mem_mb=900 a node. ")
    assert "is that folder shared between the nodes?" in message, "it left no log"


def test_a_job_fails_only_when_slurm_answers_and_no_longer_knows_it(executor):
    submit(executor, Job("score", ["a"]), "1")
    assert look(executor) == ["1"]
    executor.says = {"1": State(GONE)}
    assert look(executor) == look(executor) == ["1"], "its result may be on its way"
    assert look(executor) == [] and "no longer known" in executor.reported[-1][1]


def test_a_job_that_slurm_requeues_keeps_running(executor):
    submitted = submit(executor, Job("train_gan", ["a"]), "1")
    ends(submitted, "error")  # its node failed
    executor.says = {"1": State("PENDING")}
    assert look(executor) == ["1"]
    executor.says = {"1": State("COMPLETED", "0:0")}
    assert look(executor) == [] and executor.reported[-1] == ("success", "1")


def test_a_killed_head_finds_its_jobs_again(executor):
    running, finished, failed, changed, new = (Job("score", [name]) for name in "abcde")
    for number, job in enumerate((running, finished, failed, changed), start=1):
        executor._record(job, str(number))
    ends(SlurmJob(folder=executor.folder / "score", job_id="2"), "success")
    Path("b").touch()
    changed.shellcmd = "make it otherwise"
    executor.says = {"1": State("RUNNING"), "2": State("COMPLETED"), "3": State("FAILED"), "4": State("RUNNING")}
    assert executor._find_again([running, finished, failed, changed, new]) == [new, failed, changed]
    assert executor.reported == [("submitted", "1"), ("submitted", "2")]
    assert executor.called == [["scancel", "--", "4"]], "no two jobs write the same file"


def test_jobs_with_equal_parameters_become_arrays_of_at_most_the_width(executor):
    executor.settings.array_width = 3
    executor._submit = lambda jobs: executor.submitted.append([job.output[0] for job in jobs])
    large = Job("score", ["big"], resources={"mem_mb": 9})
    executor.run_jobs([*(Job("score", [str(number)]) for number in range(5)), large, Job("sample", ["s"])])
    assert executor.submitted == [["0", "1", "2"], ["3", "4"], ["big"], ["s"]]


def test_a_job_that_cannot_be_submitted_fails_with_one_line(executor, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(executor, "_contact", full)
    monkeypatch.setenv("PATH", str(_srun(executor.folder)), prepend=":")
    executor.run_jobs([Job("score", ["a"]), Job("score", ["b"])])
    assert [kind for kind, _ in executor.reported] == ["error", "error"]
    assert "No space left on device" in executor.reported[0][1] and "\n" not in executor.reported[0][1]


def _srun(folder: Path) -> Path:
    """submitit looks for srun before it submits."""
    folder.mkdir()
    (folder / "srun").write_text("#!/bin/sh\n")
    (folder / "srun").chmod(0o755)
    return folder


def test_one_scancel_cancels_all_jobs(executor):
    for number in range(3):
        submit(executor, Job("score", [str(number)]), str(number))
    executor.cancel_jobs([])
    assert executor.called == [["scancel", "--", "0", "1", "2"]]
    assert not list(executor.ledger.folder.iterdir())


def test_a_result_that_is_stale_or_not_whole_is_read_again(executor, monkeypatch):
    submitted = submit(executor, Job("score", ["a"]), "1")
    ends(submitted, "success")
    whole = submitted.paths.result_pickle.read_bytes()
    executor.says = {"1": State(GONE)}
    submitted.paths.result_pickle.write_bytes(whole[:-3])
    assert look(executor) == ["1"]
    submitted.paths.result_pickle.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(submitit.core.utils, "pickle_load", lambda path: stale())
        assert look(executor) == ["1"]
    assert look(executor) == [] and executor.reported[-1] == ("success", "1")


def stale(*_, **__):
    raise OSError(errno.ESTALE, "Stale file handle")


def test_a_record_that_a_crash_left_empty_does_not_stop_a_restart(executor, monkeypatch):
    job = Job("score", ["a"])
    executor._record(job, "1")
    (file,) = executor.ledger.folder.iterdir()
    file.write_text("")
    assert executor._find_again([job]) == [job]
    assert "score: the record of an earlier start cannot be read" in executor.logged[-1]
    monkeypatch.setattr(Path, "read_text", stale)
    assert executor._find_again([job]) == [job] and executor.waited == [1, 1]
    submit(executor, job, "2")
    monkeypatch.setattr(Path, "unlink", stale)
    ends(executor.watched["2"].aux["submitted"], "success")
    assert look(executor) == [] and executor.reported[-1] == ("success", "2")
    assert "the record of job 2 is still there" in executor.logged[-1]


def test_jobs_that_cannot_be_cancelled_now_are_found_by_the_next_start(executor):
    job = Job("score", ["a"])
    submit(executor, job, "1")
    executor.refuses = "scancel: error: Kill job error on job id 1: Socket timed out on send/recv operation\n"
    executor.cancel_jobs([])
    assert len(executor.called) == 4 and executor.logged[-1].endswith("cancel them with scancel 1")
    assert executor.ledger.read(job).job_id == "1"
    executor.says, job.shellcmd = {"1": State("RUNNING")}, "make it otherwise"
    assert executor._find_again([job]) == [], "no two jobs write the same file"
    assert "job 1 of an earlier start has other settings and cannot be cancelled" in executor.reported[-1][1]


def test_a_resource_that_turns_out_wrong_fails_its_job_alone(executor):
    executor._submit = lambda jobs: executor.submitted.extend(jobs)
    wrong, right = Job("score", ["a"], resources={"mem_mb": "8G"}), Job("score", ["b"])
    executor.run_jobs([wrong, right])
    assert executor.submitted == [right]
    assert executor.reported[-1][1].startswith("score: resource mem_mb is '8G', it must be a whole number")


def test_a_job_is_known_to_slurm_s_check_although_its_disk_space_is_not():
    """Snakemake derives disk space from inputs; with a profile, nothing else of a job depends on them."""
    known = {"gpus": 8, "mem_mb": 800000, "disk_mb": "<TBD>", "disk": "<TBD>", "tmpdir": "<TBD>"}
    assert plugin._known(SimpleNamespace(resources=known))
    assert not plugin._known(SimpleNamespace(resources=known | {"mem_mb": "<TBD>"}))
