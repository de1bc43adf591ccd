"""What a submitit job runs: one shell command, and the processes that it starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from snakemake_executor_plugin_submitit.checks import unwritable


class Command:
    """A shell command. If it `resumes`, it is warned early enough to save, and the job is queued again.

    The warning is SIGUSR2, which SLURM sends to every process of a job before its time limit or preemption: submitit
    calls `checkpoint`, a training saves within `grace` seconds and exits, and all other processes ignore it. SIGTERM
    would not do: on SIGTERM srun kills its processes on all nodes, and torchrun kills its own after 30 s.
    """

    def __init__(self, line: str, resumes: bool, grace: int):
        self.line, self.resumes, self.grace = line, resumes, grace

    def __call__(self) -> None:
        """Run the command. Raises CalledProcessError if it fails, SystemExit if the whole job was terminated."""
        if not self.resumes:  # it cannot save: it runs on until SLURM ends it
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        terminated = []
        signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))
        if "SLURM_CPUS_PER_TASK" in os.environ:  # else a step within the job gets one CPU
            os.environ["SRUN_CPUS_PER_TASK"] = os.environ["SLURM_CPUS_PER_TASK"]
        process = subprocess.Popen(["bash", "-c", f"trap '' USR2\n{self.line}"])
        try:
            code = process.wait()
        finally:
            _end(signal.SIGTERM, grace=1)
        if code and terminated:
            sys.exit(128 + signal.SIGTERM)  # record no result: SLURM knows how the job ended
        if code:
            print(f"the command ended with exit code {code}", file=sys.stderr, flush=True)
            raise subprocess.CalledProcessError(code, "snakemake")
        if why := unwritable(Path(os.environ.get("SUBMITIT_FOLDER", "."))):
            print(f"the command succeeded, but its result cannot be written: {why}", file=sys.stderr)
            sys.exit(0)  # record no result: SLURM reports the job as completed

    def checkpoint(self):
        """Warn all processes of the command, let them save and exit, and have submitit queue the job again."""
        from submitit.helpers import DelayedSubmission

        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        _end(signal.SIGUSR2, self.grace)
        return DelayedSubmission(self)


def _end(by: signal.Signals, grace: float) -> None:
    """Send a signal to all child processes, then SIGKILL to those left after `grace` seconds."""
    import psutil

    started = psutil.Process().children(recursive=True)
    for process in started:
        _send(process, by)
    _, left = psutil.wait_procs(started, timeout=grace)
    for process in left:
        _send(process, signal.SIGKILL)


def _send(process, number: signal.Signals) -> None:
    import psutil

    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
