"""Shards of labelled latents, read as one table."""

import pytest
import torch
from safetensors.torch import save_file

from diffusion2gan.data.latents import LabelledLatents
from diffusion2gan.errors import UserError


def test_shards_are_one_table(tmp_path):
    whole, labels = torch.randn(12, 4, 2, 2).half(), torch.arange(12) % 5
    for name, rows in (("a", slice(0, 7)), ("b", slice(7, 8)), ("c", slice(8, 12))):
        save_file({"latents": whole[rows].clone(), "labels": labels[rows].clone()}, tmp_path / name)
    table = LabelledLatents([tmp_path / name for name in "abc"], classes=5)
    assert table.shape == (12, 4, 2, 2) and len(table) == 12
    chosen = torch.tensor([11, 0, 6, 7, 8, 7])
    assert torch.equal(table[chosen], whole[chosen]) and torch.equal(table.labels[chosen], labels[chosen])


def test_a_folder_without_latents_is_an_error(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "other")
    for path in (tmp_path / "other", tmp_path / "missing"):
        with pytest.raises(UserError, match="encode_latents.py"):
            LabelledLatents([path], classes=5)
    save_file({"latents": torch.zeros(2, 4, 2, 2), "labels": torch.tensor([0, 9])}, tmp_path / "many")
    with pytest.raises(UserError, match="2 classes and --classes is 5"):
        LabelledLatents([tmp_path / "many"], classes=5)
