"""Pairs come back as they were made, however they are cut, and a damaged shard is named."""

import pandas as pd
import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.pairs import PairDataset, check_disk, index_shards, pair_seeds, sha256, shard_range, write_shard
from diffusion2gan.teacher import noise

SHAPE = (4, 8, 8)
COUNT = 10


def make_dataset(folder, shards, steps="5"):
    folder.mkdir()
    prompts = folder / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(3), "caption": ["a", "b", "c"]}).to_parquet(prompts)
    paths = []
    for shard in range(shards):
        pairs = shard_range(shard, shards, COUNT)
        latents = torch.stack([torch.full(SHAPE, float(pair)) for pair in pairs])
        paths.append(folder / f"shard-{shard:05d}.safetensors")
        metadata = {"steps": steps, "prompts_sha256": sha256(prompts)}
        write_shard(paths[-1], latents, pair_seeds(pairs, 7), [pair % 3 for pair in pairs], metadata)
    index_shards(paths, prompts).to_parquet(folder / "index.parquet")
    return folder, paths


@pytest.mark.parametrize("shards", [1, 3, 4])
def test_pairs_do_not_depend_on_how_they_are_cut(tmp_path, shards):
    dataset = PairDataset(make_dataset(tmp_path / "pairs", shards)[0])
    assert len(dataset) == COUNT
    indices = torch.tensor([9, 0, 4, 4])
    batch = dataset.batch(indices)
    assert batch.x[:, 0, 0, 0].tolist() == [9, 0, 4, 4]
    assert batch.captions == ["a", "a", "b", "b"]
    torch.testing.assert_close(batch.z, noise(pair_seeds([9, 0, 4, 4], 7), SHAPE), rtol=0, atol=0)


def test_shards_cover_every_pair_once():
    for shards in (1, 3, 7):
        assert [pair for shard in range(shards) for pair in shard_range(shard, shards, 20)] == list(range(20))


def test_seeds_are_distinct_and_differ_between_datasets():
    assert len(set(pair_seeds(range(10_000), 0)) | set(pair_seeds(range(10_000), 1))) == 20_000


def test_a_damaged_shard_is_named_by_reader_and_index(tmp_path):
    folder, paths = make_dataset(tmp_path / "pairs", 2)
    content = bytearray(paths[1].read_bytes())
    content[-1] ^= 1
    paths[1].write_bytes(content)
    dataset = PairDataset(folder)
    dataset.batch(torch.tensor([0]))
    with pytest.raises(UserError, match="shard-00001.safetensors is damaged or missing"):
        dataset.batch(torch.tensor([9]))
    paths[0].write_bytes(content[:100])
    with pytest.raises(UserError, match="shard-00000.safetensors is damaged"):
        index_shards(paths, folder / "prompts.parquet")


def test_shards_of_different_recipes_do_not_mix(tmp_path):
    folder, paths = make_dataset(tmp_path / "five", 2)
    _, others = make_dataset(tmp_path / "fifty", 2, steps="50")
    with pytest.raises(UserError, match="made under other settings"):
        index_shards([paths[0], others[1]], folder / "prompts.parquet")


def test_latents_that_are_not_finite_are_refused(tmp_path):
    folder, paths = make_dataset(tmp_path / "pairs", 1)
    metadata = {"steps": "5", "prompts_sha256": sha256(folder / "prompts.parquet")}
    write_shard(paths[0], torch.full((1, *SHAPE), float("nan")), [1], [0], metadata)
    with pytest.raises(UserError, match="not finite"):
        index_shards(paths, folder / "prompts.parquet")


def test_no_pairs_and_no_disk_are_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="there are no pairs in"):
        PairDataset(tmp_path)
    with pytest.raises(UserError, match="GB left and this shard needs"):
        check_disk(tmp_path, 10**15, SHAPE)
