"""The BAPPS reader, against files in its official layout."""

import numpy as np
import pytest
from official import bapps as official

from diffusion2gan.data.bapps import BAPPS, judgements
from diffusion2gan.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Two judgements of `cnn` and one of `traditional`, each patch of one grey value."""
    official.write(tmp_path, "val", "cnn", {"000001": (10, 20, 30, 0.3), "000000": (40, 50, 60, 0.6)})
    official.write(tmp_path, "val", "traditional", {"000000": (70, 80, 90, 0.9)})
    return tmp_path


def test_reads_the_layout_of_bapps(folder):
    read = judgements(str(folder), "val", 0, size=32)
    assert isinstance(read, BAPPS) and len(read) == 3
    found = [
        (j.subset, j.ref[0, 0, 0], j.p0[0, 0, 0], j.p1[0, 0, 0], round(j.judge, 3))
        for j in map(read.__getitem__, range(3))
    ]
    assert found == [("cnn", 40, 50, 60, 0.6), ("cnn", 10, 20, 30, 0.3), ("traditional", 70, 80, 90, 0.9)]
    assert read[0].ref.shape == (32, 32, 3) and read[0].ref.dtype == np.uint8


def test_a_missing_or_incomplete_folder_is_an_error(folder):
    with pytest.raises(UserError, match="2afc.*6.6 GB"):
        BAPPS(folder, "train", 64)
    patch = folder / "val" / "cnn" / "p1" / "000000.png"
    patch.write_bytes(patch.read_bytes()[:60])
    with pytest.raises(UserError, match=f"the image {patch} cannot be read"):
        BAPPS(folder, "val", 64)[0]


@pytest.mark.parametrize("judge", [np.array([0.5, 0.5]), np.array([1.5]), np.array([])])
def test_a_judgement_of_another_shape_is_an_error(folder, judge):
    np.save(folder / "val" / "cnn" / "judge" / "000000.npy", judge)
    with pytest.raises(UserError, match="cnn/judge/000000.npy must be one fraction"):
        [BAPPS(folder, "val", 64)[i] for i in range(3)]


@pytest.mark.parametrize("role", ["ref", "p0", "p1", "judge"])
def test_patches_without_a_judgement_are_as_incomplete_as_a_judgement_without_patches(folder, role):
    (file,) = (folder / "val" / "cnn" / role).glob("000000.*")
    file.unlink()
    with pytest.raises(UserError, match=f"BAPPS is incomplete: .*/cnn/{role} lacks 1 files, the first is {file.name}"):
        BAPPS(folder, "val", 64)
    for path in (folder / "val" / "cnn" / role).iterdir():
        path.unlink()
    with pytest.raises(UserError, match=f"cnn/{role} lacks 2 files"):
        BAPPS(folder, "val", 64)


def test_what_is_hidden_is_no_judgement(folder):
    for role in ("ref", "p0", "p1", "judge"):
        (folder / "val" / "cnn" / role / "._000000.npy").touch()
    (folder / "val" / ".ipynb_checkpoints" / "judge").mkdir(parents=True)
    (folder / "val" / ".ipynb_checkpoints" / "judge" / "000000.npy").touch()
    assert len(BAPPS(folder, "val", 64)) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x93NUMPY", b"PK\x05\x06" + bytes(18), b"half", {"dtype": object}, {"dtype": "U3"}, {"dtype": complex},
        {"dtype": "M8[s]"},
    ],
)  # fmt: skip
def test_a_judgement_that_is_no_number_is_an_error(folder, content):
    path = folder / "val" / "cnn" / "judge" / "000000.npy"
    if isinstance(content, dict):
        np.save(path, np.zeros(1, **content))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="the judgement .*cnn/judge/000000.npy") as error:
        BAPPS(folder, "val", 64)[0]
    assert "\n" not in str(error.value)
