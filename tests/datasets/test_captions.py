"""Prompts are distinct, seeded, and read from what people have."""

import pandas as pd
import pytest

from diffusion2gan.datasets import openmoji
from diffusion2gan.datasets.captions import prompts
from diffusion2gan.errors import UserError


def test_openmoji_prompts_are_those_of_the_pairs_in_a_seeded_order():
    chosen = prompts("openmoji", 5000, seed=1)
    assert set(chosen["caption"]) == {prompt.caption for prompt in openmoji.prompts("pairs")}
    assert chosen["caption"].is_unique
    assert chosen["prompt_id"].tolist() == list(range(len(chosen)))
    assert prompts("openmoji", 5000, seed=1).equals(chosen)
    assert not prompts("openmoji", 5000, seed=2).equals(chosen)


def test_files_of_captions(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("a cat\n\n a dog \na cat\n", encoding="utf-8")
    assert sorted(prompts(str(text), 10, 0)["caption"]) == ["a cat", "a dog"]
    laion = tmp_path / "laion.parquet"
    pd.DataFrame({"TEXT": ["one", None, "two", "three"], "URL": list("abcd")}).to_parquet(laion)
    assert len(prompts(str(laion), 2, 0)) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "\n\n", "holds no caption"),
        ("missing.txt", None, "there are no prompts at"),
        ("other.parquet", {"words": ["a"]}, "has the columns words: one must be named 'caption'"),
    ],
)
def test_a_bad_source_is_told_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif content:
        pd.DataFrame(content).to_parquet(path)
    with pytest.raises(UserError, match=message):
        prompts(str(path), 1, 0)
