"""The repair of torchvision: where operators are missing it declares them, elsewhere it touches nothing."""

import subprocess
import sys

import pytest

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
    assert run(BROKEN, f"import diffusion2gan; {SHOW}").startswith("torchvision::nms(Tensor dets, ")


def test_a_healthy_install_keeps_its_operators(run):
    assert run(HEALTHY, f"import diffusion2gan; {SHOW}") == "torchvision::nms(Tensor healthy) -> Tensor\n"
