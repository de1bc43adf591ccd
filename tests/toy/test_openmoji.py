"""Scenes are what their captions say, and the same on every call."""

import numpy as np
import pytest

from diffusion2gan.toy.openmoji import EMOJI, GROUNDS, Prompt, Scenes, _code_point, prompts, rasterise


def test_every_name_is_drawn_once():
    assert len(set(EMOJI)) == len(EMOJI) >= 100
    drawings = {rasterise(_code_point(i)).tobytes() for i in range(len(EMOJI))}
    assert len(drawings) == len(EMOJI)


def test_a_scene_depends_on_seed_and_index_alone():
    once, again = Scenes("all", 7, 64), Scenes("all", 7, 64)
    again[3]
    assert (once[5].image == again[5].image).all()
    assert not (once[5].image == once[6].image).all()
    assert not (once[5].image == Scenes("all", 8, 64)[5].image).all()


def test_a_scene_has_the_prompt_and_the_image_that_are_asked_for_alone():
    scenes = Scenes("all", 7, 64)
    assert all(scenes.prompt(i) == scenes[i].prompt for i in range(20))
    assert (scenes.image(5) == scenes[5].image).all()


def test_the_ground_is_the_colour_of_the_caption():
    scenes = Scenes("all", 0, 64)
    for i in range(50):
        scene = scenes[i]
        pixels, counts = np.unique(scene.image.reshape(-1, 3), axis=0, return_counts=True)
        name, colour = list(GROUNDS.items())[scene.prompt.ground]
        assert tuple(pixels[counts.argmax()]) == colour or (scene.image[[0, 0, -1, -1], [0, -1, 0, -1]] == colour).any()
        assert scene.prompt.caption.endswith(f" {name} background")


def test_a_caption_reads_as_english():
    assert Prompt(EMOJI.index("red apple"), list(GROUNDS).index("blue")).caption == "a red apple on a blue background"
    assert Prompt(EMOJI.index("owl"), list(GROUNDS).index("orange")).caption == "an owl on an orange background"


def test_the_prompts_of_pairs_and_benchmark_are_disjoint_and_cover_everything():
    pairs, benchmark = set(prompts("pairs")), set(prompts("benchmark"))
    assert not pairs & benchmark
    assert pairs | benchmark == set(prompts("all"))
    for split in (pairs, benchmark):
        assert {p.emoji for p in split} == set(range(len(EMOJI)))
        assert {p.ground for p in split} == set(range(len(GROUNDS)))


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="no split 'test'.*pairs"):
        prompts("test")
