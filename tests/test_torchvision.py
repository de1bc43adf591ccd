"""The repair of torchvision: where operators are missing it declares them, elsewhere it touches nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import diffusion2gan

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


SHOW = "import torchvision, torch; print(torch.ops.torchvision.nms.default._schema)"


def test_it_is_needed_where_the_binary_did_not_load(run):
    assert "torchvision::nms does not exist" in run(BROKEN, SHOW)


def test_missing_operators_are_declared(run):
    assert run(BROKEN, f"import diffusion2gan._torchvision; {SHOW}").startswith("torchvision::nms(Tensor dets, ")


def test_a_healthy_install_keeps_its_operators(run):
    assert run(HEALTHY, f"import diffusion2gan._torchvision; {SHOW}") == "torchvision::nms(Tensor healthy) -> Tensor\n"


def imported(path: Path) -> set[str]:
    """What a module imports as it is imported, functions' own imports left out."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def test_modules_that_need_it_bring_it_or_their_room_does():
    heavy = {"cleanfid", "diffusers", "open_clip", "timm", "torchvision", "transformers"}
    library = Path(diffusion2gan.__file__).parent
    needing = [path for path in library.rglob("*.py") if {name.partition(".")[0] for name in imported(path)} & heavy]
    assert len(needing) > 10
    for path in needing:
        rooms = [room / "__init__.py" for room in path.parents if library in room.parents]
        assert any("diffusion2gan._torchvision" in imported(each) for each in (path, *rooms)), path
