"""Paths and commands in README and docs exist, and the README's snippet samples an image."""

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from workflow.conftest import pretend

from diffusion2gan.generator import Generator

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDENT = "work/demo/runs/diffusion2gan/student"
MADE = (
    "schemas/",
    "work/",
    "results/",
    "data/",
    ".venv",
    ".snakemake",
    "metrics/",
    ".submitit",
)  # by the workflow, not in git
SUFFIXES = (".py", ".md", ".smk", ".yaml", ".csv", ".png", ".toml", ".lock", "/")


def code_lines(text: str) -> list[str]:
    """The lines of a page's code blocks, comments cut off."""
    fenced = re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^    (.*)$", text, re.MULTILINE)
    return [re.sub(r"\s{2,}#.*", "", line).strip() for line in [*"".join(fenced).splitlines(), *indented]]


def inline_code(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose)]


def commands(program: str) -> list[str]:
    """The distinct commands of a program in the pages, except those with a placeholder."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [line for text in texts for line in [*code_lines(text), *inline_code(text)]]
    typed = [line for line in found if line.startswith(f"{program} ")]
    return list(dict.fromkeys(line for line in typed if not re.search(r"TARGET|\bX\b|--unlock", line)))


def test_the_readme_has_at_most_120_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_the_readme_s_snippet_is_printed_by_the_demo_and_samples_an_image(small_teacher_folder, tmp_path):
    snippet = re.search(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]
    demo = runpy.run_path(str(ROOT / "src/scripts/report/make_demo.py"))
    assert demo["SNIPPET"].format(student=STUDENT) == snippet

    Generator.from_teacher(small_teacher_folder).save(tmp_path / STUDENT, small_teacher_folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert Image.open(tmp_path / "fox.png").size == (64, 64)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_snippet_imports_this_package_before_diffusers(page):
    """Torchvision's operators do not load beside a CPU build of torch, and importing this package repairs that."""
    for snippet in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        imported = re.findall(r"^(?:import|from) (\w+)", snippet, re.MULTILINE)
        assert "diffusers" not in imported or "diffusion2gan" in imported[: imported.index("diffusers")], snippet


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_a_target(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    for link in links:
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in [each.lower().replace(" ", "-") for each in headings], link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page):
    text = page.read_text(encoding="utf-8")
    words = [word for line in [*code_lines(text), *inline_code(text)] for word in line.replace(",", " ").split()]
    paths = {word for word in words if "/" in word and word.endswith(SUFFIXES)}
    paths = {path for path in paths if not path.startswith(MADE) and not re.search(r"[{}*<…:\"'(=|]", path)}
    # the map of the README and ARCHITECTURE indents what lies in src/diffusion2gan/; files of docs/ link to each other
    roots = [ROOT, ROOT / "src", ROOT / "src/diffusion2gan", page.parent]
    missing = {path for path in paths if not any((root / path).exists() for root in roots)}
    assert not missing - NOT_PATHS


NOT_PATHS = {"ByteDance/SDXL-Lightning/sdxl_lightning_1step_unet_x0.safetensors"}


def test_every_make_command_has_its_target():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {command.split()[1] for command in commands("make")}
    assert {"demo", "test"} <= named <= targets


def test_every_python_script_has_the_options_that_are_typed(monkeypatch):
    typed = commands("python")
    assert len(typed) > 5
    for command in typed:
        _, script, *words = shlex.split(command)
        assert (ROOT / script).exists(), command
        assert all((ROOT / word).exists() for word in words if word.endswith(".py")), command
        options = {word for word in words if word.startswith("--")}
        if options:
            monkeypatch.setattr("sys.argv", [script, "--help"])
            with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit):
                runpy.run_path(str(ROOT / script), run_name="__main__")
            assert all(re.search(rf"{option}\b", shown.getvalue()) for option in options), command


def test_every_snakemake_command_can_be_planned(tmp_path):
    workflow = pretend(tmp_path)
    page = (ROOT / "docs/ablations.md").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["runs"] |= yaml.safe_load(re.search(r"^```yaml\n(runs:.*?)^```$", page, re.DOTALL | re.MULTILINE)[1])["runs"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    listed = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/tables.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = [word for line in listed for word in re.findall(r"`(results/[^`{]+)`", line)]
    assert len(listed) > 10
    targets = {("--cores", "all"): listed}  # commands with equal options are planned together
    for command in commands("snakemake"):
        words = shlex.split(command)[1:]
        wanted = [word for word in words if word.startswith(("results/", "work/"))]
        options = tuple(word for word in words if word not in ("--", *wanted))
        targets.setdefault(options, []).extend(wanted or ["all"])
    assert len(targets) > 3 and sum(map(len, targets.values())) > 20
    for options, wanted in targets.items():
        ran = workflow.run("--dry-run", "--quiet", "all", *options, "--", *wanted)
        assert ran.returncode == 0, f"{options} {wanted}\n{ran.stdout}"
