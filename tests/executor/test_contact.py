"""A busy SLURM, played by fake programs: the executor waits, and no job runs twice."""

import subprocess
from types import SimpleNamespace

import pytest
from snakemake_interface_common.exceptions import ApiError
from submitit import AutoExecutor
from submitit.core.utils import pickle_load

from snakemake_executor_plugin_submitit import Executor, checks, contact
from snakemake_executor_plugin_submitit.payload import Command

BUSY = [
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
    "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
    "sbatch: error: Message receive failure, Unexpected message received\nsbatch: error: see the log",
    "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Write programs that fail `busy` times with a message before they answer; returns how often each was called."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(contact.time, "sleep", lambda seconds: None)

    def program(name: str, answer: str, busy: int = 0, said: str = BUSY[0]):
        script, calls = tmp_path / name, tmp_path / f"{name}.calls"
        calls.write_text("")
        refuses = f'if [ $(wc -l < {calls}) -le {busy} ]; then echo "{said}" >&2; exit 1; fi'
        script.write_text(f"#!/bin/sh\necho call >> {calls}\n{refuses}\n{answer}\n")
        script.chmod(0o755)
        return lambda: len(calls.read_text().splitlines())

    program("srun", "")
    return program


def submit(folder, count: int = 1) -> list:
    head = object.__new__(Executor)
    head.logger = SimpleNamespace(warning=lambda text: None)
    executor = AutoExecutor(folder / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=7, slurm_comment="mine 0123abc")
    return head._contact(executor, [Command(f"echo {i}", False, 1) for i in range(count)], "0123abc")


@pytest.mark.parametrize("said", BUSY)
def test_a_busy_slurm_is_asked_again(slurm, tmp_path, said):
    sbatch, squeue = slurm("sbatch", "echo Submitted batch job 7", 2, said), slurm("squeue", "echo '5|other'", 1, said)
    assert [job.job_id for job in submit(tmp_path)] == ["7"]
    assert (sbatch(), squeue()) == (3, 3)


@pytest.mark.parametrize("count", [1, 2])
def test_jobs_that_slurm_took_all_the_same_are_not_submitted_again(slurm, tmp_path, count):
    sbatch = slurm("sbatch", "echo Submitted batch job 7", 1)
    slurm("squeue", "echo '5|mine'; echo '6|mine 0123abc'")
    jobs = submit(tmp_path, count)
    assert sbatch() == 1 and [job.job_id for job in jobs] == (["6"] if count == 1 else ["6_0", "6_1"])
    for i, job in enumerate(jobs):
        sent = pickle_load(job.paths.submitted_pickle)  # the job waits for it
        assert sent.function.line == f"echo {i}" and sent._timeout_min == 7


def test_other_refusals_and_a_slurm_that_stays_busy_are_errors(slurm, tmp_path):
    sbatch = slurm("sbatch", "exit 1", 9, "sbatch: error: Batch job submission failed: Invalid account")
    with pytest.raises(RuntimeError, match="Invalid account"):
        submit(tmp_path)
    assert sbatch() == 1
    slurm("squeue", ""), slurm("sbatch", "", 99)
    with pytest.raises(RuntimeError, match="Socket timed out"):
        submit(tmp_path)


def test_a_busy_slurm_at_the_start_is_no_refusal(slurm, tmp_path):
    sinfo, sbatch = slurm("sinfo", "echo main", 1), slurm("sbatch", "", 1)
    for name in ("squeue", "scancel"):
        slurm(name, "")
    checks.check_cluster(tmp_path)
    checks.check_parameters({"name": "score"}, tmp_path)
    assert (sinfo(), sbatch()) == (2, 2)
    slurm("sbatch", "", 99)
    with pytest.raises(ApiError, match="SLURM does not answer: Batch job submission failed: Socket timed out"):
        checks.check_parameters({"name": "score"}, tmp_path)


def test_a_cancelled_job_that_has_ended_is_no_problem(slurm):
    slurm("scancel", "exit 1", 9, "scancel: error: Kill job error on job id 1: Invalid job id specified")
    assert contact.cancel(["1"]) is None
    assert not contact.temporary("") and subprocess.run(["scancel"], capture_output=True).returncode == 1
