"""A SLURM, started once for the tests of this folder, and a Snakemake that submits to it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm import cluster

ROOT = Path(__file__).parents[2]


@dataclass
class Head:
    """A folder in which Snakemake submits to SLURM."""

    folder: Path
    process: subprocess.Popen | None = None

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake in the background; its output goes to head.log."""
        options = "--executor submitit --submitit-cluster slurm --submitit-poll-seconds 1 --jobs 40 --latency-wait 10"
        command = [sys.executable, "-m", "snakemake", *options.split(), "--rerun-incomplete", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        environment["PATH"] = (
            f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the `python` of a rule is this one
        )
        # SIGINT is ignored where a test runs in the background
        reset = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
        with self.log.open("a") as out:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=out, stderr=out, **reset)

    @property
    def log(self) -> Path:
        return self.folder / "head.log"

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run Snakemake to its end: the exit code and what it printed."""
        code = self.start(*arguments).wait(600)
        return code, self.log.read_text()

    def made(self, name: str, seconds: float = 300) -> None:
        """Wait for a file."""
        cluster.until((self.folder / name).exists, seconds)


@pytest.fixture(scope="session")
def slurm():
    """A running SLURM of two nodes; without one installed, tests are skipped, or fail if REQUIRE_SLURM is set."""
    if why := cluster.lacking():
        if os.environ.get("REQUIRE_SLURM"):
            pytest.fail(why)
        pytest.skip(why)
    before = dict(os.environ)
    root = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, because the path of a socket must be
    started = cluster.Cluster(root)
    try:
        started.up()
        yield started
    finally:
        started.down()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def head(tmp_path, slurm) -> Iterator[Head]:
    with _started_in(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def overtime(tmp_path_factory, slurm) -> Iterator[Head]:
    """A head whose only job reaches its time limit, after more than a minute."""
    with _started_in(tmp_path_factory.mktemp("overtime")) as started:
        shutil.copy(Path(__file__).with_name("faults.smk"), started.folder / "Snakefile")
        started.process = started.start("overtime.txt")
        yield started


@contextmanager
def _started_in(folder: Path) -> Iterator[Head]:
    """A head; at the end, jobs that a failed test has left are cancelled."""
    head = Head(folder)
    try:
        yield head
    finally:
        jobs = subprocess.run(["squeue", "-h", "-o", "%i %Z"], capture_output=True, text=True).stdout.splitlines()
        left = [job.split()[0] for job in jobs if job.endswith(f" {folder}")]
        subprocess.run(["scancel", *left], check=False) if left else None
