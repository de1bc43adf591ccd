"""A source of data is registered in one place; everything that takes a source then takes it by its name."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from diffusion2gan.data import sources
from diffusion2gan.data.bapps import judgements
from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.data.sources import attribution, find_source
from diffusion2gan.pairs.prompts import choose_prompts
from diffusion2gan.pixel.cifar10 import load_images
from diffusion2gan.sampling.folder import image_paths
from scripts.data import make_benchmark


class Greys:
    """Images of one grey value."""

    attribution = "Greys by nobody"
    synthetic_judgements = True

    def captions(self):
        return {"dark", "light"}

    def prompts(self):
        return ["dark"]

    def benchmark(self, count, size, seed):
        for i in range(count):
            yield np.full((size, size, 3), i, np.uint8), {"caption": "light", "shade": 1}

    def classes(self):
        return {"shade": [["dark"], ["light"]]}

    def labelled_images(self, size, seed):
        class Labelled:
            classes = ("even", "odd")

            def __getitem__(self, index):
                return np.full((size, size, 3), seed % 251, np.uint8), index % 2

        return Labelled()

    def judgements(self, split, size, seed):
        return [(split, size, seed)]

    def unconditional_images(self, count, size, seed):
        return np.full((count, size, size, 3), seed, np.uint8)


@pytest.fixture(autouse=True)
def greys(monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "greys", f"{__name__}:Greys")


def test_a_registered_source_serves_every_purpose():
    assert choose_prompts("greys", 10, seed=0)["caption"].tolist() == ["dark"]
    assert judgements("greys", "val", seed=3, size=8) == [("val", 8, 3)]
    assert load_images("greys", 2, seed=7).tolist() == np.full((2, 32, 32, 3), 7).tolist()
    train, val = (LabelledImages("greys", split, 8, seed=0) for split in ("train", "val"))
    assert train.count is None and list(train.classes) == ["even", "odd"]
    assert train[3][1] == 1 and train[0][0].shape == (8, 8, 3)
    assert not np.array_equal(train[0][0], val[0][0]), "the splits have different seeds"


def test_a_benchmark_brings_its_classes_and_its_attribution(tmp_path):
    make_benchmark.main(make_benchmark.Arguments("greys", 3, 16, tmp_path))
    assert pd.read_parquet(tmp_path / "prompts.parquet").to_dict("list") == {
        "prompt_id": [0, 1, 2], "caption": ["light"] * 3, "shade": [1] * 3,
    }  # fmt: skip
    recipe = json.loads((tmp_path / "benchmark.json").read_text())
    assert recipe["classes"] == {"shade": [["dark"], ["light"]]} and recipe["attribution"] == "Greys by nobody"
    assert len(image_paths(tmp_path / "images")) == 3


def test_images_are_attributed_by_their_captions():
    assert attribution(["light", "a cat"]) == "Greys by nobody"
    assert attribution(["a cat"]) == ""
    assert attribution(["dark", "a red apple on a blue background"]).endswith("CC BY-SA 4.0 Greys by nobody")
    assert attribution() == attribution(["dark", "a red apple on a blue background"])


def test_a_path_is_not_a_registered_source():
    assert find_source("data/imagenet") is None and find_source(None) is None


def test_the_registry_does_not_import_torch():
    code = "import sys; from diffusion2gan.data import sources; sources.find_source('openmoji').prompts(); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
