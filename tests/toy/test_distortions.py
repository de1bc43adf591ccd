"""The synthetic judgements against what they claim, and the distortions against scipy and Pillow."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from diffusion2gan.toy.distortions import KINDS, SyntheticJudgements, distort
from diffusion2gan.toy.openmoji import Scenes


@pytest.fixture(scope="module")
def picture():
    return Scenes("all", 0, 64)[1].image / np.float32(255)


def difference(distorted: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.abs(distorted - 255 * expected.clip(0, 1))


def read_at(picture, down, right):
    """The picture read at places moved by (down, right), bilinearly, its edge repeated outside, by scipy."""
    places = np.indices(picture.shape[:2]) + np.stack(np.broadcast_arrays(down, right))
    return np.stack(
        [map_coordinates(channel, places, order=1, mode="nearest") for channel in picture.T.swapaxes(1, 2)], 2
    )


def test_blur_is_gaussian(picture):
    expected = gaussian_filter(picture.astype(float), (1.2, 1.2, 0), mode="nearest", radius=(8, 8, 0))
    assert difference(distort(picture, "blur", 0.5, None), expected).max() < 1


def test_shift_and_warp_read_between_the_pixels(picture):
    angle = np.random.default_rng(3).uniform(0, 2 * np.pi)
    moved = read_at(picture, *(2.25 * np.array([np.cos(angle), np.sin(angle)])[:, None, None]))
    assert difference(distort(picture, "shift", 0.5, np.random.default_rng(3)), moved).max() < 1

    field = zoom(np.random.default_rng(3).normal(size=(2, 4, 4)), (1, 16, 16), order=3)
    field *= 1.4 / np.sqrt((field**2).sum(0).mean())
    warped = read_at(picture, *field)
    assert difference(distort(picture, "warp", 0.5, np.random.default_rng(3)), warped).max() < 1


@pytest.mark.parametrize("severity, quality", [(0.0, 80), (0.5, 22), (1.0, 3)])
def test_jpeg_is_about_pillows(picture, severity, quality):
    file = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(file, "JPEG", quality=quality)
    pillows = np.asarray(Image.open(file)) / 255
    error = difference(distort(picture, "jpeg", severity, None), pillows).mean()
    assert error < 0.4 * difference(255 * picture, pillows).mean()


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
