"""Checks before the first job is submitted; each mistake is one line."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from snakemake_interface_common.exceptions import ApiError  # shown as one line, without a traceback

from snakemake_executor_plugin_submitit.contact import patiently, temporary

ROUTINE = ("busy", "drained", "down", "reserved", "held")  # SLURM may run such a job later


def check_cluster(folder: Path) -> None:
    """Raise ApiError unless SLURM is installed and answers, and the folder is writable."""
    for program in ("sbatch", "srun", "squeue", "scancel", "sinfo"):
        if shutil.which(program) is None:
            raise ApiError(
                f"no {program} on the PATH: start on a login node of the cluster, or with --submitit-cluster local"
            )
    ran = patiently(["sinfo", "-h", "-o", "%R"])
    if ran.returncode:
        raise ApiError(f"SLURM does not answer: {_line(ran.stderr)}")
    if why := unwritable(folder):
        raise ApiError(f"cannot write to {folder} ({why}): free some space, or choose another --submitit-folder")


def unwritable(folder: Path) -> str | None:
    """Why a folder is not writable, for example because its disk is full; None if it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(4096))
    except OSError as error:
        return error.strerror
    return None


def check_parameters(parameters: dict, folder: Path) -> None:
    """Ask SLURM (`sbatch --test-only`) whether it could ever run such a job. Raises ApiError if not."""
    from submitit import AutoExecutor

    executor = AutoExecutor(folder, cluster="slurm")
    executor.update_parameters(**parameters)
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".sh") as script:
        script.write(executor._executor._make_submission_file_text("true", "trial"))
        script.flush()
        ran = patiently(["sbatch", "--test-only", script.name])
    said = _line(ran.stderr)
    if ran.returncode and temporary(ran.stderr):
        raise ApiError(f"SLURM does not answer: {said}")
    if ran.returncode and not any(word in said.lower() for word in ROUTINE):
        asked = " ".join(f"{name}={value}" for name, value in _asked(parameters).items())
        raise ApiError(f"SLURM will not run {parameters['name']} with {asked}: {said}{_most_gpus(parameters)}")


def _asked(parameters: dict) -> dict:
    extra = parameters.get("slurm_additional_parameters", {})
    wanted = {"nodes": "nodes", "gpus": "gpus_per_node", "threads": "cpus_per_task", "runtime": "timeout_min"}
    asked = {name: parameters[key] for name, key in wanted.items() if key in parameters}
    asked |= {key: value for key, value in parameters.items() if isinstance(value, str) and key.startswith("slurm_")}
    return asked | ({"mem_mb": extra["mem"].removesuffix("M")} if "mem" in extra else {})


def _most_gpus(parameters: dict) -> str:
    """A hint if the job wants more GPUs than any node has, else an empty string."""
    said = subprocess.run(["sinfo", "-h", "-N", "-o", "%G"], capture_output=True, text=True, errors="replace").stdout
    most = max((sum(map(int, re.findall(r"gpu(?::[^:,(]+)?:(\d+)", line))) for line in said.splitlines()), default=0)
    return f" (no node has more than {most} GPUs)" if parameters.get("gpus_per_node", 0) > most else ""


def _line(said: str) -> str:
    """The last line of a SLURM program's error message, without the program's name."""
    return re.sub(r"^(\w+: )?((error|fatal): )?", "", (said.strip().splitlines() or ["no reason given"])[-1])
