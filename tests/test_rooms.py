"""The contracts of import-linter notice an import that goes up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "module, imported, told",
    [
        ("losses/regression.py", "diffusion2gan.study.study", "diffusion2gan.losses is not allowed to import"),
        ("metrics/kid.py", "diffusion2gan.toy.openmoji", "diffusion2gan.metrics is not allowed to import"),
        ("report/claims.py", "snakemake", "diffusion2gan is not allowed to import snakemake"),
        ("new_room.py", "json", "new_room"),
    ],
)
def test_an_import_that_goes_up_is_an_error(tmp_path, module, imported, told):
    shutil.copytree(ROOT / "src" / "diffusion2gan", tmp_path / "diffusion2gan")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "diffusion2gan" / module, "a", encoding="utf-8") as file:
        file.write(f"\nimport {imported}\n")
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and told in " ".join(run.stdout.split()), run.stdout + run.stderr
