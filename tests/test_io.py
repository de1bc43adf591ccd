"""Files are written atomically, readable by all who share the disk, and checked against their MD5 and free space."""

import errno
import hashlib
import io
import json
import os
import pickle
import platform
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from fuzzed import damaged, fuzzed, mutated, read
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from diffusion2gan.errors import UserError
from diffusion2gan.io import (
    atomic,
    atomic_folder,
    check_disk,
    file_md5,
    file_sha256,
    files_below,
    load_pickle,
    read_json,
    read_table,
    write_json,
)


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


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_disk_without_permissions_or_fsync_keeps_the_file(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "chmod", failing(number))
    monkeypatch.setattr(os, "fsync", failing(number))
    write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "a.json").read_text() == "1\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_or_read_only_disk_is_one_line(tmp_path, error):
    said = os.strerror(getattr(error, "errno", errno.ENOSPC))
    with (
        pytest.raises(UserError, match=rf"a.json cannot be written \({said}\): free"),
        atomic(tmp_path / "a.json"),
    ):
        raise error
    with pytest.raises(OSError, match="is a directory"), atomic(tmp_path / "a.json"):
        raise IsADirectoryError(errno.EISDIR, "is a directory")


def test_what_a_killed_process_of_this_number_left_is_not_mixed_in(tmp_path):
    """In a container every first process has the number 1."""
    for end in ("tmp", "old"):
        for own in (f"{os.getpid()}", f"{platform.node()}.{os.getpid()}"):
            left = tmp_path / f".student.{own}.{end}"
            left.mkdir()
            (left / "stale").touch()
    (tmp_path / "student").mkdir()
    with atomic_folder(tmp_path / "student") as temporary:
        temporary.mkdir(exist_ok=True)
        (temporary / "new").touch()
    assert [path.name for path in (tmp_path / "student").iterdir()] == ["new"]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\0" * 20, b"PAR1"])
@pytest.mark.parametrize(("name", "read"), [("a.json", read_json), ("a.parquet", read_table), ("a.csv", read_table)])
def test_a_file_that_is_cut_short_is_named(tmp_path, name, read, content):
    (tmp_path / name).write_bytes(content)
    if name == "a.csv" and content:
        return  # any text is a table of one column
    with pytest.raises(UserError, match=f"{name} cannot be read .*: delete it and run again") as raised:
        read(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_folder_of_others_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="cannot be written to: point `work`"):
        check_disk(tmp_path / "not" / "yet", 1, "this shard")


PICKLE = pickle.dumps({"a": [1, 2.5, "x", None], "b": (b"bytes", {3, 4}), "c": OrderedDict(d=True)})


@fuzzed
@given(content=damaged(PICKLE) | st.binary(max_size=60))
def test_any_pickle_is_read_or_told_in_one_line(content):
    read(load_pickle, io.BytesIO(content), "a.pkl", {"collections.OrderedDict": OrderedDict})


RECORD = {"run": "a", "count": 3, "metrics": {"fid": 1.5, "kid": [1, 2.0]}, "note": None}
ODD = [b"[" * 100_000, b"1", b"NaN", b'{"fid": 1e999}', b'{"fid": -Infinity}', b"\xff\xfe{}"]


@fuzzed
@given(
    content=damaged(json.dumps(RECORD).encode()) | mutated(RECORD).map(lambda tree: json.dumps(tree).encode())
    | st.binary(max_size=40) | st.sampled_from(ODD)
)  # fmt: skip
def test_any_json_is_an_object_of_finite_numbers_or_told_in_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    found = read(read_json, tmp_path / "a.json", "make it again")
    assert found is None or (isinstance(found, dict) and json.dumps(found, allow_nan=False))
