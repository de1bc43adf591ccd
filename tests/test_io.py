"""What is written is whole, readable by those who share the disk, and fits it."""

import pytest
import torch
from safetensors.torch import save_file

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic, check_disk


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").touch()
    path = tmp_path / "weights.safetensors"
    with atomic(path) as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_no_room_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="GB left and this shard needs 1,000,000.0 GB"):
        check_disk(tmp_path / "not" / "yet", 10**15, "this shard")
    check_disk(tmp_path / "not" / "yet", 1, "this shard")
