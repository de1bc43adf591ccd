"""The submitit executor and snakemake-executor-plugin-slurm with the same jobs on the same SLURM, one after the other.

    pip install snakemake-executor-plugin-slurm
    python speed/executor.py [--jobs 300] [--waiting 60] [--executors submitit slurm]

First all jobs wait, while the script counts calls of sacct and Snakemake's processor time. Then it lets all jobs end.
They do nothing, so the time until the last one has ended is overhead. Starts its own SLURM, as root.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests/slurm"))
from cluster import Cluster, lacking, until  # noqa: E402

CONFIGURATION = Path("/etc/slurm/slurm.conf")  # jobs of the other executor do not inherit SLURM_CONF
POLL = 20  # seconds between status checks, for both
OPTIONS = {
    "submitit": ["--submitit-cluster", "slurm", "--submitit-poll-seconds", str(POLL)],
    "slurm": ["--slurm-init-seconds-before-status-checks", str(POLL), "--slurm-no-account"],
}
WORKFLOW = """
rule all:
    input: expand("ended/{i}", i=range(int(config["jobs"])))

rule small:
    output: "ended/{i}"
    resources: mem_mb=100, runtime=60
    shell: "until [ -e go ]; do sleep 1; done; touch {output}"
"""


def measure(executor: str, jobs: int, waiting: float, folder: Path) -> dict[str, float]:
    """Run the jobs with one executor: calls of sacct per poll, percent of a core, seconds per job."""
    (folder / "Snakefile").write_text(WORKFLOW)
    counted = folder / "bin/sacct"
    counted.parent.mkdir()
    counted.write_text(f'#!/bin/sh\necho >> {folder}/calls\nexec {shutil.which("sacct")} "$@"\n')
    counted.chmod(0o755)
    (folder / "calls").touch()
    path = f"{counted.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", "--executor", executor, *OPTIONS[executor], "--jobs", str(jobs)]
    command += ["--config", f"jobs={jobs}"]
    with (folder / "head.log").open("w") as out:
        head = psutil.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
    until(lambda: submitted() == jobs or head.poll() is not None, 600)
    time.sleep(POLL)

    calls, used, start = lines(folder / "calls"), processor(head), time.monotonic()
    time.sleep(waiting)
    seconds = time.monotonic() - start
    result = {
        "sacct_calls_per_poll": (lines(folder / "calls") - calls) / (seconds / POLL),
        "head_core_percent": 100 * (processor(head) - used) / seconds,
    }
    (folder / "go").touch()
    start = time.monotonic()
    code = head.wait()
    result["seconds_per_job"] = (time.monotonic() - start) / jobs
    made = len(list((folder / "ended").glob("*")))
    if code or made < jobs:
        sys.exit(f"error: {executor} ended with exit code {code} and {made} of {jobs} jobs: see {folder}/head.log")
    return result


def submitted() -> int:
    return len(subprocess.check_output(["squeue", "-h", "-r", "-o", "%i"], text=True).split())


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def processor(process: psutil.Process) -> float:
    """Processor seconds of a process and of the children that it has waited for."""
    return sum(process.cpu_times()[:4])


def main(jobs: int, waiting: float, executors: list[str]) -> None:
    if why := lacking():
        sys.exit(f"error: {why}")
    if CONFIGURATION.exists():
        sys.exit(f"error: {CONFIGURATION} exists: this script starts its own SLURM, on a machine that has none")
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(root)
    results = {}
    try:
        cluster.up()
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.symlink_to(root / "slurm.conf")
        for executor in executors:
            folder = Path(tempfile.mkdtemp(prefix=f"{executor}-"))
            results[executor] = measure(executor, jobs, waiting, folder)
            numbers = "  ".join(f"{name} {value:.2f}" for name, value in results[executor].items())
            print(f"{executor:9} {jobs} jobs: {numbers}", flush=True)
            shutil.rmtree(folder)
    finally:
        CONFIGURATION.unlink(missing_ok=True)
        cluster.down()
        shutil.rmtree(root, ignore_errors=True)
    if len(results) == 2:
        first, second = (results[executor]["seconds_per_job"] for executor in executors)
        print(f"time a job, {executors[0]} / {executors[1]}: {first / second:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--waiting", type=float, default=60, help="seconds during which both are counted")
    parser.add_argument("--executors", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    main(**vars(parser.parse_args()))
