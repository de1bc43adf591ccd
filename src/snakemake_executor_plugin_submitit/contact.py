"""Patience with a SLURM whose controller is overloaded or restarts."""

import re
import subprocess
import time
from collections.abc import Sequence

TEMPORARY = re.compile(
    "unable to contact slurm controller|socket timed out|zero bytes were transmitted|resource temporarily unavailable|"
    "temporarily unable to accept|connection (refused|reset|timed out|failure)|transport endpoint is not connected|"
    "message (send|receive|send/receive) failure|unexpected message received|in standby mode|"
    "temporary failure in name resolution",
    re.IGNORECASE,
)
WAITS = (10, 20, 40, 80, 160, 160)  # seconds between attempts: eight minutes in all                         # ours


def temporary(said: str) -> bool:
    """Whether what a SLURM program printed says that a later attempt may succeed."""
    return bool(TEMPORARY.search(said))


def patiently(command: Sequence[str], waits: Sequence[float] = WAITS) -> subprocess.CompletedProcess:
    """Run a SLURM program that may safely run twice; while SLURM is busy, wait and run it again."""
    for wait in (*waits, None):
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if wait is None or not ran.returncode or not temporary(ran.stderr):
            return ran
        time.sleep(wait)


def find(mark: str) -> str | None:
    """The id of a job, alive, with this mark at the end of its comment; of an array, the id of the array.

    Raises RuntimeError if SLURM cannot say.
    """
    ran = patiently(["squeue", "--me", "-h", "-o", "%F|%k"])
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    lines = [line.strip().split("|", 1) for line in ran.stdout.splitlines()]
    return next((number for number, comment in lines if comment.endswith(mark)), None)


def cancel(jobs: Sequence[str]) -> str | None:
    """Cancel jobs; returns what SLURM says if it is too busy to do it."""
    ran = patiently(["scancel", "--", *jobs], waits=(1, 2, 4))
    return " ".join(ran.stderr.split()) if ran.returncode and temporary(ran.stderr) else None


def adopt(executor, number: str, commands: list) -> list:
    """Give a submitted job, or the jobs of a submitted array, the files that submitit could not: what to run."""
    from submitit import SlurmJob
    from submitit.core.utils import DelayedSubmission, temporary_save_path

    made, single = executor._executor, len(commands) == 1
    numbers = [number] if single else [f"{number}_{task}" for task in range(len(commands))]
    jobs = [SlurmJob(folder=made.folder, job_id=each) for each in numbers]
    for job, command in zip(jobs, commands, strict=True):
        delayed = DelayedSubmission(command)
        delayed.set_timeout(made.parameters["time"], made.max_num_timeout)
        with temporary_save_path(job.paths.submitted_pickle) as path:
            delayed.dump(path)
    return jobs
