import hashlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from diffusion2gan import provenance


def test_the_hash_is_that_of_canonical_json():
    settings = {"seed": 0, "features": {"side": 64, "network": "inception"}, "out": Path("a/b"), "name": "σ"}
    text = '{"features":{"network":"inception","side":64},"name":"\\u03c3","out":"a/b","seed":0}'
    assert provenance.json_sha256(settings) == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_ignores_order_and_nothing_else():
    settings = {"a": 1, "b": [1, 2]}
    assert provenance.json_sha256(settings) == provenance.json_sha256({"b": [1, 2], "a": 1})
    assert len({provenance.json_sha256(s) for s in (settings, {"a": 1, "b": [2, 1]}, {"a": "1", "b": [1, 2]})}) == 3


def test_what_has_no_canonical_form_is_refused():
    with pytest.raises(ValueError):
        provenance.json_sha256({"a": float("nan")})
    with pytest.raises(TypeError):
        provenance.json_sha256({"a": object()})


def test_the_commit_is_of_the_tracked_file_alone(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e@x"]
        return subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True, text=True)

    tracked, other = tmp_path / "tracked.py", tmp_path / "other.py"
    tracked.write_text("1")
    other.write_text("1")
    assert provenance.git_commit(tracked) == "unknown"
    git("init")
    git("add", "tracked.py")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert provenance.git_commit(tracked) == head
    assert provenance.git_commit(other) == "unknown"
    tracked.write_text("2")
    assert provenance.git_commit(tracked) == f"{head}-dirty"


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() == "unknown"


def test_a_record_says_all(monkeypatch):
    record = provenance.record({"a": 1}, torch.device("cpu"))
    assert record["settings"] == {"a": 1} and record["settings_sha256"] == provenance.json_sha256({"a": 1})
    assert record["versions"]["torch"] == torch.__version__
    assert record["device"].startswith("cpu")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(record["utc"])).total_seconds()) < 60
