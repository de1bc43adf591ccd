"""What a submitit job runs: one command line, with all that it started."""

import os
import signal
import subprocess
import sys


class Command:
    """A shell command. If it `resumes`, a warning ends it in time to save, and the job is queued again.

    submitit calls `checkpoint` on SIGUSR2, which SLURM sends to every process of a job before its time limit and
    before a preemption. Only this process heeds it: the command gets SIGTERM, and `grace` seconds to save.
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
            self._end(grace=1)
        if code and told:
            sys.exit(128 + signal.SIGTERM)  # leaves no result: SLURM says what became of the job
        if code:
            print(f"the command ended with exit code {code}", file=sys.stderr, flush=True)
            raise subprocess.CalledProcessError(code, "snakemake")

    def checkpoint(self):
        """End the command, and what it started, by SIGTERM; the same command goes on where it was."""
        from submitit.helpers import DelayedSubmission

        self._end(self.grace)
        return DelayedSubmission(self)

    def _end(self, grace: float) -> None:
        """SIGTERM to all that this process started, then SIGKILL to what is left after `grace` seconds."""
        import psutil

        started = psutil.Process().children(recursive=True)
        for process in started:
            _send(process.terminate)
        _, left = psutil.wait_procs(started, timeout=grace)
        for process in left:
            _send(process.kill)


def _send(signalling) -> None:
    import psutil

    try:
        signalling()
    except psutil.NoSuchProcess:
        return
