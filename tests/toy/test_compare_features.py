"""How feature spaces are compared: the degradations do what they say, and all of them are measured in all spaces."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import degradations
from diffusion2gan.toy.openmoji import EMOJI, Scenes
from diffusion2gan.toy.quality import ImageList
from scripts.toy import compare_features

ASSETS = Path(__file__).parents[2] / "assets/toy"


@pytest.fixture(scope="module")
def shown():
    """Some scenes."""
    drawn = Scenes("all", degradations.SEED + 3, 64)
    return [drawn[i] for i in range(40)]


def test_scenes_are_repeated_left_out_and_recoloured(shown):
    images = ImageList(scene.image for scene in shown)
    np.testing.assert_equal(degradations.real(3, 40), images)
    np.testing.assert_equal(degradations.repeated(images[:5], 2), [images[i] for i in (0, 0, 1, 1, 2)])
    few = [scene.image for scene in shown if scene.prompt.emoji < len(EMOJI) // 4]
    np.testing.assert_equal(degradations.without(3, 3, 0.75), few[:3])
    swapped = degradations.recoloured(images[:4], 0.5)
    np.testing.assert_equal(swapped, [images[0][..., ::-1], images[1][..., ::-1], *images[2:4]])


def test_blur_noise_and_the_autoencoder_change_images_by_their_degree(shown):
    image = shown[0].image
    changed = degradations.degraded(Teacher(str(ASSETS / "teacher")), 3, 1)
    for kind in ("blur, severity", "noise, severity", "autoencoder, passes"):
        degrees = [images[0] for (of, _), images in changed.items() if of == kind]
        errors = [np.abs(each - image.astype(float)).mean() for each in degrees]
        assert len(errors) > 1 and all(weak < strong for weak, strong in pairwise([0, *errors]))


def test_every_degradation_is_measured_in_every_space(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_features, "SIDES", (32,))
    out = tmp_path / "spaces.csv"
    compare_features.main(compare_features.Arguments(ASSETS / "teacher", ASSETS / "clip", out, count=6))
    table = pd.read_csv(out)
    counts = table.groupby(["features", "degradation"]).size().unstack("features")
    assert list(counts) == ["clip", "efficientnet-lite0 at 32"] and (counts["clip"] == counts.iloc[:, 1]).all()
    assert len(counts) == 7 and counts.loc["none"].eq(1).all()
    for _, space in table.groupby("features"):
        real, *changed = space.itertuples()
        assert (real.degradation, real.ratio, real.deviations) == ("none", 1, 0)
        for line in changed:
            assert line.ratio == pytest.approx(line.fid / real.fid, rel=1e-2) and (line.deviations > 0) == (
                line.fid > real.fid
            )
        blurred = space[space["degradation"].str.startswith("blur")]
        assert blurred["fid"].iloc[-1] > blurred["fid"].iloc[0]
