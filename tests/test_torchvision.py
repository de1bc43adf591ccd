"""The repair of torchvision: where operators are missing it declares them, elsewhere it touches nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FAKE = {
    "__init__.py": "from torchvision import extension, _meta_registrations",
    "_meta_registrations.py": "import torch\ntorch.library.register_fake('torchvision::nms')(lambda *_: None)",
}
BROKEN, HEALTHY = "", "import torch\ntorch.library.define('torchvision::nms', '(Tensor healthy) -> Tensor')"


@pytest.fixture
def run(tmp_path):
    """Runs code beside a torchvision whose binary, played by `extension`, is as given; returns its output."""

    def run(extension: str, code: str) -> str:
        (tmp_path / "torchvision").mkdir()
        for name, text in (FAKE | {"extension.py": extension}).items():
            (tmp_path / "torchvision" / name).write_text(text)
        ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        return ended.stdout + ended.stderr

    return run


def packages(script: Path) -> list[str]:
    """The packages that a script imports when it starts, in order."""
    names = []
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, ast.Import):
            names += [each.name.partition(".")[0] for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("script", sorted((ROOT / "src/scripts").rglob("*.py")), ids=lambda script: script.stem)
def test_scripts_import_this_project_before_what_imports_torchvision(script):
    names = packages(script)
    needing = {"torchvision", "diffusers", "transformers", "open_clip", "timm"} & set(names)
    assert all("diffusion2gan" in names[: names.index(name)] for name in needing)


SHOW = "import torchvision, torch; print(torch.ops.torchvision.nms.default._schema)"


def test_it_is_needed_where_the_binary_did_not_load(run):
    assert "torchvision::nms does not exist" in run(BROKEN, SHOW)


def test_missing_operators_are_declared(run):
    assert run(BROKEN, f"import diffusion2gan; {SHOW}").startswith("torchvision::nms(Tensor dets, ")


def test_a_healthy_install_keeps_its_operators(run):
    assert run(HEALTHY, f"import diffusion2gan; {SHOW}") == "torchvision::nms(Tensor healthy) -> Tensor\n"
