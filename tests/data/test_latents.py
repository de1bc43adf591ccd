"""Shards of labelled latents, read as one table."""

import json

import pytest
import torch
from safetensors.torch import save_file

from diffusion2gan.data.latents import LabelledLatents
from diffusion2gan.errors import UserError


def write(path, latents, labels, names="abcde"):
    save_file({"latents": latents, "labels": labels}, path, metadata={"classes": json.dumps(list(names))})
    return path


def test_shards_are_one_table(tmp_path):
    whole, labels = torch.randn(12, 4, 2, 2).half(), torch.arange(12) % 5
    for name, rows in (("a", slice(0, 7)), ("b", slice(7, 8)), ("c", slice(8, 12))):
        write(tmp_path / name, whole[rows].clone(), labels[rows].clone())
    table = LabelledLatents([tmp_path / name for name in "abc"], classes=5)
    assert table.shape == (12, 4, 2, 2) and len(table) == 12
    chosen = torch.tensor([11, 0, 6, 7, 8, 7])
    assert torch.equal(table[chosen], whole[chosen]) and torch.equal(table.labels[chosen], labels[chosen])


def test_a_folder_without_latents_is_an_error(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    for path in (tmp_path / "other", tmp_path / "missing"):
        with pytest.raises(UserError, match="encode_latents.py"):
            LabelledLatents([path], classes=5)
    with pytest.raises(UserError, match="there are no labelled latents"):
        LabelledLatents([], classes=5)


@pytest.mark.parametrize("labels", [[0, 9], [-1, 0], [0], [0.0, 1.0, 2.0], [[0, 1]]])
def test_labels_that_do_not_fit_are_an_error(tmp_path, labels):
    write(tmp_path / "odd", torch.zeros(2, 4, 2, 2), torch.tensor(labels))
    with pytest.raises(UserError, match="odd' holds no labelled latents .*: make it with encode_latents.py"):
        LabelledLatents([tmp_path / "odd"], classes=5)


def test_latents_of_another_list_of_classes_are_an_error(tmp_path):
    """Label 2 would be another class."""
    latents, labels = torch.zeros(2, 4, 2, 2), torch.tensor([0, 2])
    first, other = write(tmp_path / "a", latents, labels), write(tmp_path / "b", latents, labels, "abdef")
    with pytest.raises(UserError, match="b' has other classes or sizes than .*a'"):
        LabelledLatents([first, other], classes=5)
    with pytest.raises(UserError, match="c' has other classes or sizes than .*a'"):
        LabelledLatents([first, write(tmp_path / "c", torch.zeros(2, 4, 4, 4), labels)], classes=5)
    with pytest.raises(UserError, match="a' has 5 classes and --classes is 4: make them agree"):
        LabelledLatents([first], classes=4)
    save_file({"latents": latents, "labels": labels}, tmp_path / "unnamed")
    with pytest.raises(UserError, match="unnamed' holds no labelled latents"):
        LabelledLatents([tmp_path / "unnamed"], classes=5)
