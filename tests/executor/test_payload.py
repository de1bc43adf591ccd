"""The command of a submitit job, when it ends by itself and when it is ended early."""

import os
import signal
import subprocess
import sys
import time

import pytest

RUN = """
import pickle, signal, sys
from snakemake_executor_plugin_submitit.payload import Command
command = Command(sys.argv[1], sys.argv[2] == "resumes", grace=20)
if command.resumes:
    def checkpoint(*_):
        again = command.checkpoint()
        print("again", again.function.line == command.line, flush=True)
        sys.exit(7)
    signal.signal(signal.SIGUSR2, checkpoint)
command()
"""
# like a training, it saves when it is warned; its parent, like Snakemake's shell, ignores the warning
SAVING = """python - <<'X'
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.3)
    pathlib.Path("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGUSR2, save)
pathlib.Path("started").touch()
time.sleep(60)
X
touch ended"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(line: str, kind: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, line, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        end = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < end:
            time.sleep(0.05)
        return process

    yield run


def test_success_and_failure(start):
    assert start("touch started", "ends").wait(60) == 0
    _, problems = (failed := start("touch started; exit 3", "ends")).communicate(timeout=60)
    assert failed.returncode == 1 and "the command ended with exit code 3\n" in problems
    assert problems.endswith("CalledProcessError: Command 'snakemake' returned non-zero exit status 3.\n")


def test_a_warned_training_saves_and_is_queued_again(start, tmp_path):
    process = start(SAVING, "resumes")
    process.send_signal(signal.SIGUSR2)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, "again True\n")
    assert (tmp_path / "saved").exists()


def test_only_the_first_process_handles_the_warning(start, tmp_path):
    """SLURM sends it to every process of the job."""
    process = start("touch started; sleep 2; touch ended", "ends")
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert children
    for pid in [process.pid, *map(int, children)]:
        os.kill(pid, signal.SIGUSR2)
    assert process.wait(60) == 0 and (tmp_path / "ended").exists()


def test_a_terminated_job_leaves_no_result(start):
    """submitit writes a result for exceptions, not for an exit."""
    process = start("touch started; sleep 1; exit 5", "ends")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
