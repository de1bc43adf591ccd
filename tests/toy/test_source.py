"""OpenMoji as a source of data."""

import json

import pandas as pd

from diffusion2gan.toy.openmoji import EMOJI, GROUNDS, prompts
from diffusion2gan.toy.source import OpenMoji, OpenMojiSweep
from scripts.data import make_benchmark


def test_every_caption_is_in_one_class_of_each_label():
    for label, classes in OpenMoji().classes().items():
        assert len(classes) == {"emoji": len(EMOJI), "ground": len(GROUNDS)}[label]
        of = {caption: number for number, captions in enumerate(classes) for caption in captions}
        assert of == {prompt.caption: getattr(prompt, label) for prompt in prompts("all")}


def test_the_prompts_of_a_benchmark_have_the_classes_that_their_captions_are_in(tmp_path):
    make_benchmark.main(make_benchmark.Arguments("openmoji", 12, 32, tmp_path))
    table = pd.read_parquet(tmp_path / "prompts.parquet")
    classes = json.loads((tmp_path / "benchmark.json").read_text())["classes"]
    assert list(table.columns) == ["prompt_id", "caption", *classes]
    for label, of_label in classes.items():
        assert all(caption in of_label[i] for caption, i in zip(table["caption"], table[label], strict=True))


def test_a_sweep_is_measured_on_captions_of_the_pairs():
    source = OpenMojiSweep()
    asked = [row["caption"] for _, row in source.benchmark(40, 8, seed=3)]
    tested = {row["caption"] for _, row in OpenMoji().benchmark(40, 8, seed=3)}
    assert len(set(asked)) > 30 and set(asked) <= set(source.prompts()) and not tested & set(source.prompts())
