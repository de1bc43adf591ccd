"""Files are written atomically, readable by all who share the disk, and checked against their MD5 and free space."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic, check_disk, file_md5, file_sha256, files_below, write_json


def test_a_written_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").touch()
    path = tmp_path / "weights.safetensors"
    with atomic(path) as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_ends_in_a_newline_and_keeps_letters(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"side": "64 × 64", "values": [1]})
    assert (tmp_path / "new/a.json").read_bytes() == '{\n "side": "64 × 64",\n "values": [\n  1\n ]\n}\n'.encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_nothing_is_left_of_a_failed_write(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "1\n"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_no_number_that_is_none(tmp_path, value):
    """It would be an empty cell of a table, and a claim that is not measured."""
    with pytest.raises(UserError, match="a.json is not written: metrics.fids.1 is NaN or infinite, so"):
        write_json(tmp_path / "a.json", {"count": 2, "metrics": {"kid": 0.5, "fids": [1.0, value]}})
    assert not list(tmp_path.iterdir())


def test_checksums_are_those_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_md5(tmp_path / "a") == hashlib.md5(b"abc").hexdigest()
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_no_room_is_a_one_line_error(tmp_path):
    with pytest.raises(UserError, match="GB left and this shard needs 1,000,000.0 GB"):
        check_disk(tmp_path / "not" / "yet", 10**15, "this shard")
    check_disk(tmp_path / "not" / "yet", 1, "this shard")


def test_files_in_a_linked_folder_are_found(tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/weights.safetensors").touch()
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher/vae").symlink_to("../vae")
    (tmp_path / "teacher/model_index.json").touch()
    found = [str(path.relative_to(tmp_path)) for path in files_below(tmp_path / "teacher")]
    assert found == ["teacher/model_index.json", "teacher/vae/weights.safetensors"]
