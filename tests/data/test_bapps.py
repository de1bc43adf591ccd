"""The reader against files written here, and the synthetic judgements against what they claim."""

import numpy as np
import pytest
from PIL import Image

from diffusion2gan.data.bapps import BAPPS, KINDS, SyntheticJudgements, distort, judgements
from diffusion2gan.errors import UserError
from diffusion2gan.toy.openmoji import Scenes


@pytest.fixture
def folder(tmp_path):
    """Two judgements of `cnn` and one of `traditional`, each patch of one grey value."""
    grey = 0
    for subset, names in (("cnn", ("000001", "000000")), ("traditional", ("000000",))):
        for name in names:
            for role in ("ref", "p0", "p1"):
                grey += 10
                path = tmp_path / "val" / subset / role / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64), (grey,) * 3).save(path)
            (tmp_path / "val" / subset / "judge").mkdir(exist_ok=True)
            np.save(tmp_path / "val" / subset / "judge" / f"{name}.npy", np.array([grey / 100], np.float32))
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


def test_a_missing_or_incomplete_folder_is_told(folder):
    with pytest.raises(UserError, match="2afc.*6.6 GB"):
        BAPPS(folder, "train", 64)
    (folder / "val" / "cnn" / "p1" / "000000.png").unlink()
    with pytest.raises(UserError, match="p1.*000000.png"):
        BAPPS(folder, "val", 64)[0]


@pytest.mark.parametrize("judge", [np.array([0.5, 0.5]), np.array([1.5]), np.array([])])
def test_a_judgement_of_another_shape_is_told(folder, judge):
    np.save(folder / "val" / "cnn" / "judge" / "000000.npy", judge)
    with pytest.raises(UserError, match="cnn/judge/000000.npy must be one fraction"):
        [BAPPS(folder, "val", 64)[i] for i in range(3)]


def test_a_synthetic_judgement_depends_on_seed_and_index_alone():
    first, again, other = (SyntheticJudgements("train", seed, 64) for seed in (0, 0, 1))
    for index in (7, 2):
        a, b = first[index], again[index]
        assert all(np.array_equal(x, y) for x, y in ((a.ref, b.ref), (a.p0, b.p0), (a.p1, b.p1)))
        assert a.judge == b.judge and a.subset == b.subset
    assert not np.array_equal(first[3].ref, other[3].ref)
    assert not np.array_equal(first[3].ref, SyntheticJudgements("val", 0, 64)[3].ref)


def test_the_preferred_patch_is_the_nearer_one_where_pixels_can_tell():
    synthetic = SyntheticJudgements("train", 0, 64)
    right, sides, subsets = [], [], set()
    for index in range(300):
        j = synthetic[index]
        subsets.add(j.subset)
        sides.append(j.judge)
        d0, d1 = (np.abs(p.astype(float) - j.ref).mean() for p in (j.p0, j.p1))
        if j.subset == "same-kind":
            right.append((d1 < d0) == (j.judge == 1))
    assert subsets == {"same-kind", "cross-kind"}
    assert len(right) > 100 and np.mean(right) > 0.9
    assert 0.4 < np.mean(sides) < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_more_severe_is_farther_away(kind):
    errors = []
    for severity in (0.0, 0.5, 1.0):
        distances = []
        for number in range(12):
            scene = Scenes("all", 0, 64)[number].image
            random = np.random.default_rng(number)
            distorted = distort(scene / np.float32(255), kind, severity, random)
            assert distorted.dtype == np.uint8 and distorted.shape == scene.shape
            distances.append(np.abs(distorted.astype(float) - scene).mean())
        errors.append(np.mean(distances))
    assert 0 < errors[0] < errors[1] < errors[2]
