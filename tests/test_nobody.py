"""A user id without a name, and without a home, as in a container."""

import getpass
import os
import pwd
import tempfile
from pathlib import Path

from diffusion2gan import _nobody


def test_a_user_without_name_and_home_gets_both(monkeypatch, tmp_path):
    def unknown(*_):
        raise KeyError("getpwuid(): uid not found")

    _nobody.repair()
    before = dict(os.environ)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    _nobody.repair()
    assert getpass.getuser() == f"user{os.getuid()}"
    assert Path.home().parent == tmp_path and Path.home().is_dir()
    assert os.environ.keys() - before.keys() <= {"USER", "HOME"}


def test_a_home_that_takes_no_files_is_replaced_unless_it_has_downloads(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache").mkdir()
    _nobody.repair()
    assert Path.home() == tmp_path
    (tmp_path / ".cache").rmdir()
    _nobody.repair()
    assert Path.home() == tmp_path / f"home-{os.getuid()}"


def test_a_user_who_has_both_keeps_them(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "me")
    before = dict(os.environ)
    _nobody.repair()
    assert dict(os.environ) == before
