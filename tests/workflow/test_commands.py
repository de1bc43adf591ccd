"""Every command that the workflow plans is one that its script understands."""

import importlib.util
import re
import shlex
import typing
from pathlib import Path

import pytest

from diffusion2gan.study import cli

ROOT = Path(__file__).parents[2]
TABLES = [f"results/table{number}.csv" for number in range(1, 8)]
FIGURES = [f"results/figures/{name}.pdf" for name in ("fid_seconds", "fid_cost", "nfe")]
FIGURES += [f"results/figures/figure{number}.pdf" for number in range(1, 7)]


def planned(workflow, *arguments: str) -> dict[str, list[list[str]]]:
    """For each script, the command lines of a dry run."""
    ran = workflow.run("-n", "-p", *arguments)
    assert ran.returncode == 0, ran.stdout
    commands = {}
    launched = r"(?:src/scripts/launch\.py --nodes \d+ --gpus \d+ )?"
    for script, options in re.findall(rf"python {launched}src/scripts/(\w+/\w+)\.py (.*) > \S+ 2>&1", ran.stdout):
        commands.setdefault(script, []).append(shlex.split(options))
    return commands


def settings(script: str) -> type:
    """The options of a script."""
    spec = importlib.util.spec_from_file_location(Path(script).name, ROOT / f"src/scripts/{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(iter(typing.get_type_hints(module.main).values()))


@pytest.mark.parametrize(
    "targets",
    [
        (
            "--config",
            "scale=smoke",
            "--",
            *TABLES,
            *FIGURES,
            "results/runs/regression-mse.csv",
            "results/plan.md",
            "results/report.html",
            "results/demo.txt",
        ),
        ("--", "assets"),
    ],
    ids=["study", "assets"],
)
def test_each_script_understands_its_commands(workflow, targets):
    commands = planned(workflow, *targets)
    assert len(commands) >= 6
    for script, lines in commands.items():
        for line in lines:
            cli.parse(settings(script), line)  # raises UserError for what it does not understand
