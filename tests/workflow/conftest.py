"""A copy of the workflow in which every script only writes its outputs: Snakemake runs for real, in seconds."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

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
    writes = name in ("--out", "--history", "--seeds", "--markdown")
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
    prefork: bool = False  # off, because the scripts that pretend import no libraries

    def run(self, *arguments: str, interrupt_after: float | None = None) -> subprocess.CompletedProcess:
        """Run Snakemake, perhaps stopped by Ctrl-C after some seconds; its output is stdout and stderr together."""
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        environment |= {} if self.prefork else {"PREFORK": ""}
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

    def plan(self, *arguments: str) -> Counter:
        """How many jobs of each rule a dry run plans."""
        ran = self.run("-n", *arguments)
        assert ran.returncode == 0, ran.stdout
        table = re.search(r"^job +count\n-.*\n((?:\w+ +\d+\n)*)", ran.stdout, re.MULTILINE)
        jobs = Counter({rule: int(count) for rule, count in re.findall(r"(\w+) +(\d+)", table[1])} if table else {})
        assert jobs.pop("total", 0) == jobs.total()
        return jobs


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
