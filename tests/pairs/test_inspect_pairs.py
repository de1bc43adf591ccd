"""inspect_pairs.py prints the statistics of a dataset and shows samples."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from diffusion2gan import images
from diffusion2gan.io import file_sha256
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.pairs.shards import index_shards, pair_seeds, write_shard
from diffusion2gan.seeds import noise
from diffusion2gan.study import cli
from scripts.pairs.inspect_pairs import main, statistics

COUNT, SHAPE = 300, (4, 16, 16)


@pytest.fixture
def folder(teacher_folder, tmp_path):
    """Pairs whose latents are 2 z + 1, but for the last channel, which is noise of its own."""
    prompts = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(3), "caption": ["a", "bb", "cccc"]}).to_parquet(prompts, index=False)
    seeds = pair_seeds(range(COUNT), 1)
    x = 2 * noise(seeds, SHAPE) + 1
    x[:, 3] = torch.randn(COUNT, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    recipe = {"teacher": str(teacher_folder), "steps": 7, "prompts_sha256": file_sha256(prompts)}
    path = tmp_path / "shard-00000.safetensors"
    write_shard(path, x, seeds, [i % 3 for i in range(COUNT)], 0, recipe)
    index_shards([path], prompts).to_parquet(tmp_path / "index.parquet")
    return tmp_path


def test_statistics_are_those_of_the_pairs(folder):
    found = statistics(PairDataset(folder), torch.arange(COUNT))
    first, last = found["latent channel 0"], found["latent channel 3"]
    assert first["mean"] == pytest.approx(1, abs=0.05) and first["deviation"] == pytest.approx(2, abs=0.05)
    assert first["correlation"] == pytest.approx(1, abs=1e-3) and abs(last["correlation"]) < 0.03
    assert first["least"] < -5 and first["most"] > 7
    assert found["noise"]["deviation"] == pytest.approx(1, abs=0.02)
    assert found["letters of a prompt"] == {"shortest": 1, "median": 2, "longest": 4}


def test_the_command_takes_the_folder_alone(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["inspect_pairs.py", str(folder), "--pictures", "7"])
    cli.run(main)
    said = capsys.readouterr().out
    assert "300 pairs in 1 shards, 3 prompts" in said and "steps: 7" in said and "latent channel 3: mean" in said
    sheet = images.load_image(folder / "contact-sheet.png")
    assert sheet.shape[1] > 300 and np.ptp(sheet) > 100


def test_a_folder_without_pairs_is_a_one_line_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inspect_pairs.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: there are no pairs in"):
        cli.run(main)
