"""What is written is whole, and readable by those who share the disk."""

import torch
from safetensors.torch import save_file

from diffusion2gan.files import atomic


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").touch()
    path = tmp_path / "weights.safetensors"
    with atomic(path) as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
