"""The states of many SLURM jobs at once, and why a job ended, in words."""

import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace

ALIVE = """PENDING CONFIGURING RUNNING COMPLETING SUSPENDED STOPPED SIGNALING STAGE_OUT RESIZING
REQUEUED REQUEUE_HOLD REQUEUE_FED SPECIAL_EXIT RESV_DEL_HOLD""".split()
ENDING = {signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGUSR2}
GONE = "GONE"  # neither accounting nor the queue knows the job


@dataclass(frozen=True)
class State:
    """SLURM's name of a job's state, its `exit code:signal`, and its nodes; empty if unknown."""

    name: str
    code: str = ""
    nodes: str = ""

    @property
    def alive(self) -> bool:
        return self.name in ALIVE


def ask(jobs: Iterable[str]) -> dict[str, State]:
    """The states of these jobs: one call of `sacct`, and one of `squeue` if sacct lacks a job or reports a failure.

    Jobs that SLURM cannot report now, because a daemon is down, are omitted. A failure counts once squeue no longer
    lists the job: a requeued job has failed before.
    """
    wanted = set(jobs)
    accounted = _sacct(wanted)
    doubtful = {job for job in wanted if job not in accounted or not _settled(accounted[job])}
    known = {job: accounted[job] for job in wanted - doubtful}
    if not doubtful or (queued := _squeue()) is None:
        return known
    for job in doubtful:
        listed = queued.get(job, State(GONE))
        known[job] = listed if listed.alive or job not in accounted else accounted[job]
        if not known[job].alive and not known[job].code and known[job].name != GONE:
            known[job] = replace(known[job], code=_exit_code(job))
    return known


def _settled(state: State) -> bool:
    return state.alive or state.name == "COMPLETED"


def _call(*command: str) -> str | None:
    """The output of a command; None if it fails."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None


def _sacct(jobs: set[str]) -> dict[str, State]:
    from submitit.slurm.slurm import SlurmInfoWatcher

    numbers = ",".join(sorted({job.split("_")[0] for job in jobs}))
    said = _call("sacct", "-X", "--parsable2", "-o", "JobID,State,ExitCode,NodeList", "-j", numbers)
    lines = SlurmInfoWatcher().read_info(said or "")
    whole = {job: line for job, line in lines.items() if line.get("State") and "NodeList" in line}  # of a cut answer
    return {job: State(line["State"].split()[0], line["ExitCode"], line["NodeList"]) for job, line in whole.items()}


def _squeue() -> dict[str, State] | None:
    said = _call("squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%N")
    if said is None:
        return None
    lines = [line.strip().split("|") for line in said.splitlines()]
    if any(len(line) != 3 for line in lines):  # the answer was cut short: a job that it lacks may still run
        return None
    return {job: State(state, nodes=nodes) for job, state, nodes in lines}


def _exit_code(job: str) -> str:
    """The `exit code:signal` of a job that ended minutes ago, for clusters without accounting."""
    fields = (_call("scontrol", "-o", "show", "job", job) or "").split()
    return next((field.removeprefix("ExitCode=") for field in fields if field.startswith("ExitCode=")), "")


def in_words(state: State, resources: dict) -> str:
    """Why a job ended, for example `ran out of memory: it had mem_mb=16000 a node`."""
    where = f" on {state.nodes}" if state.nodes and state.nodes != "None assigned" else ""
    match state.name:
        case "OUT_OF_MEMORY":
            return f"ran out of memory{where}: it had mem_mb={resources.get('mem_mb', 'the default')} a node"
        case "TIMEOUT" | "DEADLINE":
            return f"reached its time limit{where}: it had runtime={resources.get('runtime', 'the default')} minutes"
        case "NODE_FAIL" | "BOOT_FAIL":
            return f"lost its node{where}"
        case "CANCELLED" | "REVOKED":
            return f"was cancelled{where}"
        case "PREEMPTED":
            return f"was preempted{where} and not queued again"
        case "GONE":
            return "is no longer known to SLURM and left no result"
    return f"{_exit(state.code)}{where}"


def _exit(code: str) -> str:
    number, _, by = (code or "?:0").partition(":")
    # a job's own exit code is 0 or 1; srun returns 128 + signal, and sacct subtracts the 128
    if number.isdigit() and int(number) % 128 in ENDING:
        number, by = "0", str(int(number) % 128)
    if number == "0" and by == "53":
        return "could not write its log"
    if number == "0" and by in {str(int(known)) for known in signal.Signals}:
        return f"was killed by {signal.Signals(int(by)).name}"
    return "failed" if number == "?" else f"ended with exit code {number}"
