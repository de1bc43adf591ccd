"""Collages show the drawing that they are labelled with, never twice in the same way."""

import emoji
import numpy as np

from diffusion2gan.toy import collages
from diffusion2gan.toy.collages import Collages, drawings
from diffusion2gan.toy.openmoji import rasterise
from diffusion2gan.toy.rendering import FEW, render
from diffusion2gan.toy.source import OpenMoji


def test_every_drawing_without_a_skin_tone_is_a_class():
    assert 1900 < len(drawings()) < 2000
    assert {"red apple", "fox", "1st place medal"} <= set(drawings())
    assert not any("skin tone" in name for name in drawings())
    assert len(set(drawings().values())) == len(drawings())
    assert emoji.emojize(":fox:") == chr(int(drawings()["fox"], 16))


def test_a_collage_shows_its_drawing(monkeypatch):
    """The most common colour of its drawing is in a large collage without turns."""
    monkeypatch.setattr(collages, "TURN", 0)
    for i in range(12):
        image, label = Collages(3, 128)[i]
        drawn = np.asarray(rasterise(drawings()[Collages(3, 128).classes[label]]))
        colours, counts = np.unique(drawn[drawn[..., 3] == 255][:, :3], axis=0, return_counts=True)
        common = colours[counts.argmax()].astype(int)
        assert (np.abs(image.astype(int) - common).sum(-1) < 12).mean() > 0.005


def test_a_collage_depends_on_seed_and_index_alone():
    once, again = Collages(7, 32), OpenMoji().labelled_images(32, 7)
    again[3]
    assert np.array_equal(once[5][0], again[5][0]) and once[5][1] == again[5][1]
    assert not np.array_equal(once[5][0], once[6][0]) and not np.array_equal(once[5][0], Collages(8, 32)[5][0])
    assert np.array_equal(once.image(5), once[5][0])


def test_half_of_the_collages_have_a_second_drawing(monkeypatch):
    pasted = []
    monkeypatch.setattr(collages, "_paste", lambda image, name, random, side: pasted.append(side))
    images = Collages(0, 8)
    for i in range(400):
        images[i]
    first = [side for side in pasted if side >= 0.5]
    assert len(first) == 400 and 160 < len(pasted) - 400 < 240
    assert max(first) <= 0.9 and all(0.2 <= side <= 0.4 for side in pasted if side < 0.5)


def test_many_images_are_rendered_as_one_by_one():
    count = FEW + 3  # in several processes
    images = render(Collages(0, 8).image, count)
    assert images.shape == (count, 8, 8, 3)
    assert all(np.array_equal(images[i], Collages(0, 8).image(i)) for i in (0, 63, 64, count - 1))
