"""The workflow is formatted, passes Snakemake's linter, and Snakemake starts with the executor beside it."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src")}


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True)


def test_snakefmt():
    ran = run("snakefmt", "--check", "Snakefile", "rules")
    assert ran.returncode == 0, ran.stderr


def test_lint(workflow):
    ran = workflow.run("--lint")
    assert ran.returncode == 0 and "Congratulations" in ran.stdout, ran.stdout


def test_snakemake_starts_with_the_executor():
    ran = run("snakemake", "--help")
    assert ran.returncode == 0, ran.stderr
    assert "--submitit-cluster" in ran.stdout


def test_no_profile_applies_on_its_own():
    assert not (ROOT / "profiles").exists()
    slurm = yaml.safe_load((ROOT / "slurm/profile.yaml").read_text())
    assert slurm["executor"] == "submitit" and "scale=paper" in slurm["config"]
