"""What a submitit job runs: one command line, with all that it started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from snakemake_executor_plugin_submitit.checks import unwritable


class Command:
    """A shell command. If it `resumes`, a warning ends it in time to save, and the job is queued again.

    The warning is SIGUSR2, which SLURM sends to every process of a job before its time limit and before a preemption:
    submitit calls `checkpoint`, a training saves within `grace` seconds and ends, and all else ignores it. It is not
    SIGTERM, at which srun kills its processes on all nodes, and torchrun its own after 30 s.
    """

    def __init__(self, line: str, resumes: bool, grace: int):
        self.line, self.resumes, self.grace = line, resumes, grace

    def __call__(self) -> None:
        """Run the command. Raises subprocess.CalledProcessError, or SystemExit where the whole job was told to end."""
        if not self.resumes:  # it would lose what it has done: SLURM may end it
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(True))
        if "SLURM_CPUS_PER_TASK" in os.environ:  # a step within the job would have one CPU
            os.environ["SRUN_CPUS_PER_TASK"] = os.environ["SLURM_CPUS_PER_TASK"]
        process = subprocess.Popen(["bash", "-c", f"trap '' USR2\n{self.line}"])
        try:
            code = process.wait()
        finally:
            _end(signal.SIGTERM, grace=1)
        if code and told:
            sys.exit(128 + signal.SIGTERM)  # leaves no result: SLURM says what became of the job
        if code:
            print(f"the command ended with exit code {code}", file=sys.stderr, flush=True)
            raise subprocess.CalledProcessError(code, "snakemake")
        if why := unwritable(Path(os.environ.get("SUBMITIT_FOLDER", "."))):
            print(f"the command has succeeded, which cannot be written down: {why}", file=sys.stderr)
            sys.exit(0)  # leaves no result: SLURM says that it has completed

    def checkpoint(self):
        """Let the command save and end, also where its processes have not heard the warning; it is to be run again."""
        from submitit.helpers import DelayedSubmission

        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        _end(signal.SIGUSR2, self.grace)
        return DelayedSubmission(self)


def _end(by: signal.Signals, grace: float) -> None:
    """Send a signal to all that this process started, then SIGKILL to what is left after `grace` seconds."""
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
