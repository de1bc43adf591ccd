"""A copy of the workflow in which every script only writes its outputs: Snakemake runs for real, in seconds."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from snakemake import cli

ROOT = Path(__file__).parents[2]

SCRIPT = '''
"""Writes its own command line to each of its outputs; fails where the file FAIL names this script."""
import pathlib, sys
script = pathlib.Path(sys.argv[0])
options = list(zip(sys.argv[1:], sys.argv[2:]))
if checkpoints := dict(options).get("--checkpoints"):
    pathlib.Path(checkpoints).mkdir(parents=True, exist_ok=True)
failing = pathlib.Path("FAIL")
if failing.exists() and failing.read_text() in sys.argv:
    print("working")
    sys.exit(f"error: {script.stem} fails, as it should")
for name, value in options:
    out = pathlib.Path(value)
    writes = name in ("--out", "--readable", "--history", "--seeds", "--markdown")
    writes |= name == "--metrics" and script.stem.startswith(("train_", "calibrate_"))
    if not writes:
        continue
    if script.stem == "make_benchmark":
        (out / "images").mkdir(parents=True, exist_ok=True)
        (out / "benchmark.json").touch()
        out = out / "prompts.parquet"
    elif script.stem == "sample":
        told = dict(options)
        out = out / f"shard-{told['--shard']}-of-{told['--shards']}.json"
    elif not out.suffix:
        out = out / "made.txt"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(" ".join(sys.argv))
    if out.suffix == ".png":
        out.with_suffix(".pdf").touch()
'''


@dataclass
class Workflow:
    """A folder in which Snakemake can be run."""

    folder: Path
    as_typed: bool = False  # as a person starts it, with the server of jobs; otherwise it is forked from this process

    def run(self, *arguments: str, interrupt_after: float | None = None) -> subprocess.CompletedProcess:
        """Run Snakemake; its output is stdout and stderr together. As typed, Ctrl-C may stop it after some seconds."""
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        if not self.as_typed:
            return self._forked(arguments, environment | {"PREFORK": ""})
        command = [sys.executable, "-m", "snakemake", *arguments]
        with subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=interrupt_after is not None,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=interrupt_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to Snakemake and its jobs alike
                output, _ = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, output)

    def _forked(self, arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess:
        """Run Snakemake in a fork of this process, which has imported it: importing takes longer than a dry run."""
        with tempfile.TemporaryFile() as out:
            if (process := os.fork()) == 0:
                _snakemake(arguments, environment, self.folder, out.fileno())
            _, status = os.waitpid(process, 0)
            out.seek(0)
            return subprocess.CompletedProcess(arguments, os.waitstatus_to_exitcode(status), out.read().decode())

    def plan(self, *arguments: str) -> Counter:
        """How many jobs of each rule a dry run plans."""
        ran = self.run("-n", *arguments)
        assert ran.returncode == 0, ran.stdout
        table = re.search(r"^job +count\n-.*\n((?:\w+ +\d+\n)*)", ran.stdout, re.MULTILINE)
        jobs = Counter({rule: int(count) for rule, count in re.findall(r"(\w+) +(\d+)", table[1])} if table else {})
        assert jobs.pop("total", 0) == jobs.total()
        return jobs


def _snakemake(arguments: tuple[str, ...], environment: dict[str, str], folder: Path, out: int) -> None:
    """Run Snakemake in this process, write its output to the open file `out`, and end the process."""
    status = 1
    try:
        for stream in (1, 2):
            os.dup2(out, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "diffusion2gan"]:
            del sys.modules[name]  # with what other tests have left in its caches
        sys.argv = ["snakemake", *arguments]
        cli.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:  # whatever it is, this process must not go on as a second run of the tests
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    """A fresh copy of the workflow."""
    return pretend(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Workflow:
    """A copy in which Tables 1 and 2 and Figure 1 are made at the smoke scale; leave it as you find it."""
    workflow = pretend(tmp_path_factory.mktemp("made"))
    targets = ("results/table1.csv", "results/table2.csv", "results/figures/figure1.png")
    ran = workflow.run("--cores", "2", "--config", "scale=smoke", "--", *targets)
    assert ran.returncode == 0, ran.stdout
    return workflow


def pretend(folder: Path) -> Workflow:
    """Copy the workflow, with scripts that pretend, and empty files for the shipped weights."""
    for name in ("rules", "scales", "envs", "slurm", "local"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Snakefile", "captions.yaml", "claims.yaml", "config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for path in [*(ROOT / "src/diffusion2gan").rglob("*.csv"), *(ROOT / "src/scripts").rglob("*.py")]:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(SCRIPT if path.suffix == ".py" and path.name != "launch.py" else path.read_text())
    for shipped in (
        "teacher/model_index.json",
        "teacher-xl/model_index.json",
        "clip/weights.safetensors",
        "edm/config.json",
        "vgg-latent.safetensors",
    ):
        path = folder / "assets/toy" / shipped
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "assets/toy/vgg-pixel.safetensors").touch()
    return Workflow(folder)
