"""Samples that a score cannot compare are refused in one line."""

import json
import shutil

import pandas as pd
import pytest
from metrics.conftest import COUNT, SHIPPED_CLIP, score
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.metrics.samples import Samples, ScoredImages
from diffusion2gan.sampling.folder import image_paths


def test_more_images_than_prompts_are_refused(benchmark, colours):
    table = pd.read_parquet(benchmark / "prompts.parquet")
    table[: COUNT - 1].to_parquet(benchmark / "prompts.parquet")
    with pytest.raises(UserError, match="holds 8 images.*only 7 prompts"):
        score(benchmark, metrics=["fid"])


def test_no_part_of_a_score_is_kept_when_something_is_wrong(benchmark, colours, drawer):
    out = benchmark.parent / "metrics" / "coco2014.json"

    def complaint(**settings):
        with pytest.raises(UserError) as error:
            score(benchmark, **{"metrics": ["fid"]} | settings)
        assert "\n" not in str(error.value) and not out.exists()
        return str(error.value)

    dreamsim = {"metrics": ["dreamsim"], "dreamsim": f"local-dir:{SHIPPED_CLIP}"}
    assert complaint(**dreamsim) == (
        "dreamsim compares with the teacher: give the folder of its samples as --teacher_images"
    )
    other = drawer("other", 2, captions_sha256="another")
    assert "do not have the same noise and prompts" in complaint(**dreamsim, teacher_images=other)
    assert "--repeats 8" in complaint(**dreamsim | {"metrics": ["dreamdiv"]}, diversity=other)
    (benchmark / "benchmark.json").write_text('{"pictures": 13}')
    assert complaint().endswith("/images holds 12 of 13 images: make it again with make_benchmark.py")
    (benchmark / "benchmark.json").unlink()
    drawn = benchmark.parent / "drawn"
    Image.new("RGB", (31, 32)).save(drawn / "00003.png")
    assert (
        "(32, 32) pixels" in complaint() and "00003.png has (31, 32): sample all of them with one model" in complaint()
    )
    (drawn / "00003.png").write_bytes((drawn / "00002.png").read_bytes()[:200])
    assert "drawn/00003.png cannot be read (image file is truncated)" in complaint()
    (drawn / "00003.png").unlink()
    assert "holds 7 of 8 images" in complaint()
    drawer("drawn", 1, captions_sha256="another")
    assert "was sampled for other prompts" in complaint()
    for image in (benchmark / "images").iterdir():
        image.unlink()
    drawer("drawn", 1)
    assert "there are no images in" in complaint()


@pytest.mark.parametrize("name", ["seed", "captions_sha256", "count"])
def test_a_teachers_images_of_other_noise_prompts_or_number_are_refused(benchmark, colours, name):
    drawn = benchmark.parent / "drawn"
    theirs, other = benchmark.parent / "theirs", {"seed": 1, "captions_sha256": "other", "count": COUNT - 1}
    shutil.copytree(drawn, theirs)
    samples = Samples(ScoredImages(images=drawn, benchmark=benchmark, metrics=[], resolution=32, teacher_images=theirs))
    same = samples.recipe | {"captions_sha256": "same"}
    samples.recipe = same
    (theirs / "sample.json").write_text(json.dumps(same | {"model": "another", "steps": 50}))
    assert samples.of_the_teacher().files == image_paths(theirs)
    (theirs / "sample.json").write_text(json.dumps(same | {name: other[name]}))
    with pytest.raises(UserError) as error:
        samples.of_the_teacher()
    assert str(error.value) == f"{theirs} and {drawn} do not have the same noise and prompts: sample them alike"


def test_samples_of_one_prompt_are_refused_unless_their_recipe_says_how_many(benchmark, colours, drawer):
    def several(folder):
        wanted = {"images": benchmark.parent / "drawn", "benchmark": benchmark, "metrics": [], "resolution": 32}
        return Samples(ScoredImages(**wanted, diversity=folder)).several()

    once, plain, twice = drawer("once", 1), drawer("plain", 1), drawer("twice", 1, repeats=2)
    (plain / "sample.json").write_text('{"count": 8}')
    for folder in (None, once, plain, benchmark / "images"):
        with pytest.raises(UserError) as error:
            several(folder)
        assert str(error.value) == (
            "dreamdiv compares samples of one prompt: make them with sample.py --repeats 8 and give their folder as "
            "--diversity"
        )
    images, repeats = several(twice)
    assert images.files == image_paths(twice) and repeats == 2
