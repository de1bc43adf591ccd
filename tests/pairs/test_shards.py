"""Pairs are read back as they were made, however they are sharded, and a damaged shard is named."""

import errno
import fcntl
import hashlib
import json
import os
import pickle
from copy import copy

import pandas as pd
import pytest
import torch
from fuzzed import damaged, fuzzed, mutated, read
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from diffusion2gan.errors import UserError
from diffusion2gan.io import file_sha256
from diffusion2gan.pairs import shards as shards_module
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.pairs.prompts import read_prompts
from diffusion2gan.pairs.shards import (
    index_shards,
    pair_seeds,
    shard_recipe,
    unfinished,
    write_shard,
)
from diffusion2gan.pairs.sizes import bytes_of, shard_range
from diffusion2gan.seeds import noise

SHAPE = (4, 16, 16)
BYTES = 4 * 16 * 16 * 2  # of a latent in half precision
COUNT = 10


def make_dataset(folder, shards, steps=5):
    folder.mkdir()
    prompts = folder / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(3), "caption": ["a", "b", "c"]}).to_parquet(prompts, index=False)
    paths = []
    for shard in range(shards):
        pairs = shard_range(shard, shards, COUNT)
        latents = torch.stack([torch.full(SHAPE, float(pair)) for pair in pairs])
        paths.append(folder / f"shard-{shard:05d}.safetensors")
        recipe = {"steps": steps, "prompts_sha256": file_sha256(prompts)}
        write_shard(paths[-1], latents, pair_seeds(pairs, 7), [pair % 3 for pair in pairs], pairs.start, recipe)
    index_shards(paths, prompts).to_parquet(folder / "index.parquet")
    return folder, paths


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def parts(path):
    """Where in the file of a shard its header is, and each of its tensors: first byte and the one after the last."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")  # as safetensors lays a file out
    header = json.loads(content[8:end])
    tensors = {name: header[name]["data_offsets"] for name in ("latents", "seeds", "prompt_ids")}
    return {"header": (0, end)} | {name: (end + start, end + stop) for name, (start, stop) in tensors.items()}


def test_the_parts_of_a_shard_are_where_they_are_said_to_be(tmp_path):
    """The test of flipped bytes assumes this."""
    _, (path,) = make_dataset(tmp_path / "pairs", 1)
    content, held, place = path.read_bytes(), load_file(path), parts(path)
    for name, tensor in held.items():
        start, stop = place[name]
        assert content[start:stop] == tensor.numpy().tobytes()
    assert sum(stop - start for start, stop in place.values()) == len(content)


@pytest.mark.parametrize("shards", [1, 3, 4])
def test_pairs_do_not_depend_on_how_they_are_sharded(tmp_path, shards):
    dataset = PairDataset(make_dataset(tmp_path / "pairs", shards)[0])
    assert len(dataset) == COUNT
    indices = torch.tensor([9, 0, 4, 4])
    batch = dataset.batch(indices)
    assert batch.x[:, 0, 0, 0].tolist() == [9, 0, 4, 4]
    assert batch.captions == ["a", "a", "b", "b"]
    torch.testing.assert_close(batch.z, noise(pair_seeds([9, 0, 4, 4], 7), SHAPE), rtol=0, atol=0)


def test_captions_are_those_of_the_prompt_ids(tmp_path):
    folder, (path,) = make_dataset(tmp_path / "pairs", 1)
    recipe, prompt_ids = shard_recipe(path), [2, 2, 0, 1, 0, 0, 1, 2, 1, 0]
    write_shard(path, torch.zeros(COUNT, *SHAPE), pair_seeds(range(COUNT), 7), prompt_ids, 0, recipe)
    index_shards([path], folder / "prompts.parquet").to_parquet(folder / "index.parquet")
    indices = [7, 0, 3, 9, 2]
    assert PairDataset(folder).batch(indices).captions == ["abc"[prompt_ids[index]] for index in indices]


def test_the_first_pairs_alone(tmp_path):
    folder, _ = make_dataset(tmp_path / "pairs", 3)
    whole, part = PairDataset(folder), PairDataset(folder, first=7)
    assert len(part) == 7
    assert part.batch([6]).x.equal(whole.batch([6]).x)
    with pytest.raises(UserError, match="holds 10 pairs, not the 11 requested"):
        PairDataset(folder, first=11)


def test_held_out_pairs_are_the_last_ones_and_can_be_read_by_index(tmp_path):
    folder, _ = make_dataset(tmp_path / "pairs", 3)
    whole, rest, part = (PairDataset(folder, *given) for given in ((), (0, 3), (7, 3)))
    assert (len(rest), len(part), rest.held_out, whole.held_out) == (7, 7, range(7, 10), range(10, 10))
    assert rest.batch(rest.held_out).x.equal(whole.batch([7, 8, 9]).x)
    for first, held_out in ((8, 3), (0, 10)):
        with pytest.raises(UserError, match=f"holds 10 pairs, not the .* requested and the {held_out} to hold out"):
            PairDataset(folder, first, held_out)


def test_shards_cover_every_pair_once():
    for shards in (1, 3, 7):
        assert [pair for shard in range(shards) for pair in shard_range(shard, shards, 20)] == list(range(20))


def test_seeds_are_distinct_and_differ_between_datasets():
    assert len(set(pair_seeds(range(10_000), 0)) | set(pair_seeds(range(10_000), 1))) == 20_000


def test_the_seeds_of_pairs_never_change():
    digest = hashlib.sha256(str(pair_seeds(range(1000), 3)).encode()).hexdigest()
    assert digest == "cabd9ae38585e57e5d8e051d147776a52b756a58f6b1cb2707bd07cbc87e9c91"


def test_equal_pairs_make_equal_bytes(tmp_path):
    paths = [make_dataset(tmp_path / name, 1)[1][0] for name in "abcd"]
    assert len({path.read_bytes() for path in paths}) == 1
    assert abs(paths[0].stat().st_size - bytes_of(COUNT, SHAPE)) < 1000
    assert shard_recipe(paths[0])["steps"] == 5


def test_workers_of_a_data_loader_read_the_same_pairs(tmp_path):
    dataset = PairDataset(make_dataset(tmp_path / "pairs", 3)[0])
    order = [[9, 0, 4], [3, 3, 7], [1, 2, 8]]
    expected = [dataset.batch(indices) for indices in order]
    loader = DataLoader(dataset, batch_sampler=order, collate_fn=copy, num_workers=2, multiprocessing_context="fork")
    for batch, wanted in zip(loader, expected, strict=True):
        torch.testing.assert_close((batch.z, batch.x), (wanted.z, wanted.x), rtol=0, atol=0)
        assert batch.captions == wanted.captions
    assert len(dataset.shards) == 3
    sent = pickle.loads(pickle.dumps(dataset))  # to a worker that is spawned, which maps the shards itself
    assert not sent.shards
    torch.testing.assert_close(sent.batch(order[0]).x, expected[0].x, rtol=0, atol=0)


@pytest.mark.parametrize("part", ["latents", "seeds", "prompt_ids", "header"])
def test_a_flipped_byte_is_named_by_reader_and_index(tmp_path, part):
    folder, paths = make_dataset(tmp_path / "pairs", 3)
    start, stop = parts(paths[1])[part]
    for place in (start, (start + stop) // 2, stop - 1):
        flip(paths[1], place)
        dataset = PairDataset(folder)
        dataset.batch(torch.tensor([0]))
        with pytest.raises(UserError, match="shard-00001.safetensors is damaged.*delete it and run again"):
            dataset.batch(torch.tensor([5]))
        with pytest.raises(UserError, match="shard-00001.safetensors is damaged") as raised:
            index_shards(paths, folder / "prompts.parquet")
        assert "shard-00000" not in str(raised.value) and "shard-00002" not in str(raised.value)
        flip(paths[1], place)
    content = paths[1].read_bytes()
    for said, other in ((b"[3,4,16,16]", b"[3,16,4,16]"), (b'"I64"', b'"U64"'), (b'"seeds"', b'"speed"')):
        assert said in content
        paths[1].write_bytes(content.replace(said, other))  # the same bytes, read as something else
        with pytest.raises(UserError, match="shard-00001.safetensors is damaged"):
            index_shards(paths, folder / "prompts.parquet")
    paths[1].write_bytes(content)


def test_each_damaged_shard_is_named_and_a_missing_one(tmp_path):
    folder, paths = make_dataset(tmp_path / "pairs", 3)
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    flip(paths[2])
    with pytest.raises(UserError, match=r"00000.safetensors is damaged .*\); shard-00002.safetensors is damaged"):
        index_shards(paths, folder / "prompts.parquet")
    paths[1].unlink()
    with pytest.raises(UserError, match="shard-00001.safetensors is missing"):
        PairDataset(folder).batch(torch.tensor([5]))
    with pytest.raises(UserError, match="shard-00000.safetensors is damaged"):
        shard_recipe(paths[0])
    index = folder / "index.parquet"
    index.write_bytes(index.read_bytes()[:-9])
    with pytest.raises(
        UserError, match="index.parquet cannot be read as parquet .*: delete it and run again to remake it"
    ):
        PairDataset(folder)


def test_a_shard_is_verified_again_only_if_it_has_changed(tmp_path, monkeypatch):
    folder, paths = make_dataset(tmp_path / "pairs", 2)
    made = (folder / "index.parquet").stat().st_mtime_ns
    verified = []
    monkeypatch.setattr("diffusion2gan.pairs.dataset.verify", lambda path: verified.append(path))
    os.utime(paths[0], ns=(made - 1, made - 1))
    PairDataset(folder).batch([0])
    assert verified == []
    os.utime(paths[0], ns=(made + 1, made + 1))
    with pytest.raises(TypeError):
        PairDataset(folder).batch([0])
    assert verified == [paths[0]]


def test_shards_of_different_recipes_and_cuts_do_not_mix(tmp_path):
    folder, paths = make_dataset(tmp_path / "five", 3)
    _, others = make_dataset(tmp_path / "fifty", 3, steps=50)
    with pytest.raises(UserError, match="shard-00001.safetensors was made with other settings") as raised:
        index_shards([paths[0], others[1], paths[2]], folder / "prompts.parquet")
    assert "shard-00000" not in str(raised.value)
    _, halves = make_dataset(tmp_path / "halves", 2)
    with pytest.raises(UserError, match="shard-00001.safetensors starts with pair 5 and not with 3"):
        index_shards([paths[0], halves[1]], folder / "prompts.parquet")
    pd.DataFrame({"prompt_id": [0], "caption": ["d"]}).to_parquet(tmp_path / "others.parquet")
    with pytest.raises(UserError, match="were made from other prompts"):
        index_shards(paths, tmp_path / "others.parquet")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e6])
def test_latents_that_are_not_finite_are_refused_when_they_are_made(tmp_path, value, monkeypatch):
    """-1e6 is finite, but not in half precision."""
    folder, (path,) = make_dataset(tmp_path / "pairs", 1)
    recipe, before = {"prompts_sha256": file_sha256(folder / "prompts.parquet")}, path.read_bytes()
    latents = torch.zeros(2, *SHAPE)
    latents[1, 1, 2, 3] = value
    with pytest.raises(UserError, match="the latent of shard-00000.safetensors's pair 1 has values that are NaN"):
        write_shard(path, latents, [1, 2], [0, 0], 0, recipe)
    with (
        pytest.raises(UserError, match="the latent of this shard's pair 3 has values that are NaN or infinite"),
        unfinished(path, {}, [2, 2], SHAPE) as work,
    ):
        work.append(torch.zeros(2, *SHAPE))
        work.append(latents)
    with unfinished(path, {}, [2, 2], SHAPE) as work:
        assert len(work.batches) == 1  # the sound batch stays
    assert path.read_bytes() == before
    monkeypatch.setattr(shards_module, "check_finite", lambda latents, *_: latents)
    write_shard(path, latents, [1, 2], [0, 0], 0, recipe)  # made elsewhere
    with pytest.raises(UserError, match="not finite"):
        index_shards([path], folder / "prompts.parquet")


def test_finished_batches_survive_and_nothing_else_does(tmp_path):
    """Whatever of the file is lost or damaged, the whole batches before that place are kept."""
    path, sizes = tmp_path / "shard-00000.safetensors", [4, 4, 2]
    batches = [torch.randn(size, *SHAPE).half() for size in sizes]
    with pytest.raises(KeyboardInterrupt), unfinished(path, {"seed": 1}, sizes, SHAPE) as work:
        for batch in batches:
            work.append(batch)
        raise KeyboardInterrupt
    (beside,) = tmp_path.iterdir()
    content = beside.read_bytes()

    def kept(damaged, settings=None):
        beside.write_bytes(damaged)
        with pytest.raises(KeyboardInterrupt), unfinished(path, settings or {"seed": 1}, sizes, SHAPE) as work:
            held = len(work.batches)
            for found, batch in zip(work.batches, batches[:held], strict=True):
                torch.testing.assert_close(found, batch, rtol=0, atol=0)
            for batch in batches[held:]:
                work.append(batch)
            raise KeyboardInterrupt
        return held

    first, second = 32 + 32 + 4 * BYTES, 32 + 2 * (32 + 4 * BYTES)
    assert [kept(content[:length]) for length in (0, 31, 32, first - 1, first, second + 5)] == [0, 0, 0, 0, 1, 2]
    assert beside.read_bytes() == content
    zeroed = content[:second] + bytes(len(content) - second)  # as a crash of the machine may leave it
    assert kept(zeroed) == 2 and kept(content) == 3 and kept(content, {"seed": 2}) == 0
    size = 32 + 4 * BYTES  # of the first batch, written twice
    assert kept(content[: 32 + size] + content[32 : 32 + size]) == 1, "as two processes without a lock may leave it"
    with unfinished(path, {"seed": 1}, sizes, SHAPE):
        second = unfinished(path, {"seed": 1}, sizes, SHAPE)
        with pytest.raises(UserError, match="another process is making"):
            second.__enter__()
    assert not beside.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_makes_pairs_and_says_so(tmp_path, monkeypatch, capsys, number):
    def lacking(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", lacking)
    path, other = tmp_path / "shard-00000.safetensors", tmp_path / ".shard-00000.safetensors.other.1.tmp"
    other.touch()
    with unfinished(path, {}, [2], SHAPE) as work:
        with unfinished(path, {}, [2], SHAPE) as second:  # in another process
            second.append(torch.ones(2, *SHAPE))
        work.append(torch.ones(2, *SHAPE))
    assert capsys.readouterr().err.count("has no locks") == 2
    assert list(tmp_path.iterdir()) == [other], "which that process may be writing"
    monkeypatch.setattr(fcntl, "flock", lambda *_: exec("raise OSError(errno.EIO, 'broken')"))
    with pytest.raises(OSError, match="broken"), unfinished(path, {}, [2], SHAPE):
        pass


def test_bad_lists_of_prompts_are_one_line_errors(tmp_path):
    path = tmp_path / "prompts.parquet"
    for columns, message in [
        ({"prompt_id": [0], "text": ["a"]}, "has no rows with a column 'caption': make it with"),
        ({"prompt_id": [], "caption": []}, "has no rows"),
        ({"prompt_id": [0, 2], "caption": ["a", "b"]}, "are not 0, 1, 2"),
        ({"prompt_id": [0, 1], "caption": ["a", None]}, "column 'caption' does not hold str in every row"),
        ({"prompt_id": ["0", "1"], "caption": ["a", "b"]}, "column 'prompt_id' does not hold int in every row"),
    ]:
        pd.DataFrame(columns).to_parquet(path, index=False)
        with pytest.raises(UserError, match=message):
            read_prompts(path)
    path.write_text(json.dumps({}))
    with pytest.raises(UserError, match="cannot be read as parquet .*: make it with prepare_prompts.py") as raised:
        read_prompts(path)
    assert "\n" not in str(raised.value)


def test_no_pairs_are_one_line_errors(tmp_path):
    with pytest.raises(UserError, match="there are no pairs in"):
        PairDataset(tmp_path)


def test_a_whole_shard_of_another_dataset_is_named(tmp_path):
    folder, paths = make_dataset(tmp_path / "pairs", 2)
    os.utime(folder / "index.parquet", ns=(1, 1))
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(UserError, match="shard-00001.safetensors is not the one in the index: delete it and run again"):
        PairDataset(folder).batch(torch.tensor([5]))


def test_the_order_in_which_settings_are_written_makes_no_other_shard(tmp_path):
    path = tmp_path / "shard-00000.safetensors"
    orders = [{"seed": 1, "steps": 2}, {"steps": 2, "seed": 1}]
    with pytest.raises(KeyboardInterrupt), unfinished(path, orders[0], [2, 2], SHAPE) as work:
        work.append(torch.ones(2, *SHAPE))
        raise KeyboardInterrupt
    with unfinished(path, orders[1], [2, 2], SHAPE) as work:
        assert len(work.batches) == 1
    contents = []
    for settings in orders:
        write_shard(path, torch.ones(1, *SHAPE), [1], [0], 0, settings)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A dataset of three pairs in two shards, and the contents of its files."""
    folder = tmp_path_factory.mktemp("small") / "pairs"
    folder.mkdir()
    prompts = folder / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(3), "caption": ["a", "b", "c"]}).to_parquet(prompts, index=False)
    recipe = {"steps": 5, "prompts_sha256": file_sha256(prompts), "scheduler": "ddim, eta 0", "guidance": 3.0}
    paths = [folder / f"shard-{shard:05d}.safetensors" for shard in range(2)]
    for path, pairs in zip(paths, (range(2), range(2, 3)), strict=True):
        write_shard(path, torch.zeros(len(pairs), 1, 2, 2), pair_seeds(pairs, 7), pairs, pairs.start, recipe)
    index_shards(paths, prompts).to_parquet(folder / "index.parquet")
    return folder, paths, {path: path.read_bytes() for path in folder.iterdir()}


@fuzzed
@given(data=st.data(), newer=st.booleans())
def test_any_file_of_a_dataset_is_read_or_told_in_one_line(small, data, newer):
    """A shard that is older than the index is not verified again, but it is read with care."""
    folder, paths, whole = small
    for path, content in whole.items():
        path.write_bytes(content)
    path = data.draw(st.sampled_from(sorted(whole)))
    path.write_bytes(data.draw(damaged(whole[path]) | st.binary(max_size=40)))
    os.utime(folder / "index.parquet", (1, 1) if newer else (2**31, 2**31))
    sound = path.read_bytes() == whole[path]
    index = read(index_shards, paths, folder / "prompts.parquet")
    assert sound or path.name == "index.parquet" or index is None
    if (dataset := read(PairDataset, folder)) is not None:
        batch = read(dataset.batch, range(len(dataset)))
        read(lambda: dataset.evaluations)
        assert not sound or batch.captions == ["a", "b", "c"]
        assert sound or not newer or not path.name.startswith("shard") or batch is None


TENSORS = {
    "latents": torch.zeros(2, 1, 2, 2).half(), "seeds": torch.arange(2), "prompt_ids": torch.arange(2),
    "halves": torch.zeros(2).bfloat16(), "none": torch.zeros(0, 1, 2, 2).half(), "float": torch.zeros(2),
}  # fmt: skip


@fuzzed
@given(data=st.data(), names=st.permutations(list(TENSORS)))
def test_a_shard_with_any_tensors_and_metadata_is_told_in_one_line(tmp_path, data, names):
    path, prompts = tmp_path / "shard-00000.safetensors", tmp_path / "prompts.parquet"
    prompts.touch()
    about = data.draw(mutated({"recipe": {"prompts_sha256": ""}, "first": 0, "sha256": ""}))
    tensors = {name: TENSORS[other].clone() for name, other in zip(TENSORS, names, strict=True)}
    save_file(tensors, path, metadata={"pairs": json.dumps(about)})
    assert read(index_shards, [path], prompts) is None  # no checksum is right
    read(shard_recipe, path)
