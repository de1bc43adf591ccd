"""generate_pairs.py: the same pairs however they are made, and however often the job is killed."""

import os
import random
import signal
import time
from multiprocessing import get_context
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from diffusion2gan.errors import UserError
from diffusion2gan.io import file_sha256
from diffusion2gan.pairs.shards import index_shards, shard_recipe, verify
from diffusion2gan.seeds import mix, noise
from diffusion2gan.teacher import Teacher
from scripts.pairs import generate_pairs
from scripts.pairs.generate_pairs import Arguments, main

SHARDS, COUNT = 3, 32
CAPTIONS = [f"a fox on a {colour} background" for colour in ("red", "green", "blue", "white", "pink")]
fork = get_context("fork")


@pytest.fixture(scope="module")
def teacher(teacher_folder):
    return Teacher(str(teacher_folder))


@pytest.fixture
def make(teacher, tmp_path, monkeypatch):
    """Make shards in a folder, in this process."""
    monkeypatch.setattr(generate_pairs, "load_teacher", lambda *settings: teacher)
    prompts = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(5), "caption": CAPTIONS}).to_parquet(prompts, index=False)

    def make(folder, chosen=range(SHARDS), batch_size=4, **settings):
        settings = {"shards": SHARDS, "count": COUNT, "steps": 2, "guidance": 3.0, "seed": 5} | settings
        for shard in chosen:
            out = tmp_path / folder / f"shard-{shard:05d}.safetensors"
            if not out.exists():
                where = {"teacher": "teacher", "prompts": prompts, "shard": shard, "out": out}
                main(Arguments(**where, batch_size=batch_size, **settings))

    return make


def index(folder):
    return index_shards(sorted(folder.glob("shard-*.safetensors")), folder.parent / "prompts.parquet")


def killed(work, delay=None):
    """Do the work in another process and kill it after a delay in seconds; returns whether it was still running."""
    process = fork.Process(target=work)
    process.start()
    if delay is not None:
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


def kill_this():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pair_is_the_solution_of_its_own_noise_and_caption_as_its_recipe_says(make, teacher, tmp_path):
    make("pairs", steps=3, guidance=4.0, spacing="leading")
    solve, pair = {"solver": "ddim", "spacing": "leading"}, 0
    for path in sorted((tmp_path / "pairs").iterdir()):
        recipe, held = shard_recipe(path), load_file(path)
        assert (recipe["steps"], recipe["guidance"], recipe["spacing"], recipe["seed"]) == (3, 4.0, "leading", 5)
        assert recipe["scheduler"] == "ddim, eta 0"
        numbers = range(pair, pair + len(held["seeds"]))
        assert held["seeds"].tolist() == [mix(5, number) for number in numbers]
        assert held["prompt_ids"].tolist() == [number % 5 for number in numbers]
        z, texts = noise(held["seeds"].tolist(), teacher.latent_shape), [CAPTIONS[i] for i in held["prompt_ids"]]
        x = held["latents"].float()
        torch.testing.assert_close(x, teacher.solve(z, texts, 3, 4.0, **solve), rtol=2e-3, atol=2e-3)
        others = {
            "the next caption": teacher.solve(z, [CAPTIONS[(i + 1) % 5] for i in held["prompt_ids"]], 3, 4.0, **solve),
            "no guidance": teacher.solve(z, texts, 3, 1.0, **solve),
            "fewer steps": teacher.solve(z, texts, 2, 4.0, **solve),
            "another spacing": teacher.solve(z, texts, 3, 4.0),
        }
        for name, other in others.items():  # the comparison above would notice each change
            assert ((x - other).abs().flatten(1).amax(1) > 0.02).all(), name
        pair = numbers.stop
    assert pair == COUNT


def test_order_batches_and_processes_make_the_same_pairs(make, tmp_path):
    make("one")
    halves = [fork.Process(target=make, args=("two", part, 7)) for part in ([2, 1], [0])]
    for half in halves:
        half.start()
    for half in halves:
        half.join()
        assert half.exitcode == 0
    for one, two in zip(sorted((tmp_path / "one").iterdir()), sorted((tmp_path / "two").iterdir()), strict=True):
        one, two = load_file(one), load_file(two)
        for name in ("seeds", "prompt_ids"):
            assert one[name].numpy().tobytes() == two[name].numpy().tobytes()
        torch.testing.assert_close(one["latents"], two["latents"], rtol=1e-3, atol=1e-3)


def test_killed_twenty_times_the_shards_are_those_of_an_undisturbed_run(make, tmp_path):
    start = time.monotonic()
    make("whole")
    seconds, draw = time.monotonic() - start, random.Random(0)
    folder, kills = tmp_path / "killed", 0
    while kills < 20:
        kills += killed(lambda: make("killed"), draw.uniform(0, seconds / 2))
        finished = sorted(folder.glob("shard-*"))
        assert [verify(path)["problem"] for path in finished] == [None] * len(finished)
        if len(finished) == SHARDS:
            draw.choice(finished).unlink()
    make("killed")
    assert index(folder).equals(index(tmp_path / "whole"))
    names = [path.name for path in sorted((tmp_path / "whole").iterdir())]
    assert [path.name for path in sorted(folder.iterdir())] == names
    assert all((folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_a_killed_shard_resumes_from_its_last_finished_batch(make, teacher, tmp_path, monkeypatch):
    make("whole", [0])
    solve, calls = teacher.solve, []

    def counted(*arguments, **settings):
        calls.append(len(calls))
        if len(calls) == 3 and stop:
            kill_this()
        return solve(*arguments, **settings)

    monkeypatch.setattr(teacher, "solve", counted)
    stop = True
    assert killed(lambda: make("killed", [0]))
    stop = False
    make("killed", [0])
    assert len(calls) == 1  # of three batches
    (made,), (whole,) = (list((tmp_path / name).iterdir()) for name in ("killed", "whole"))
    assert made.read_bytes() == whole.read_bytes()


def test_a_job_killed_while_it_writes_leaves_nothing_in_the_end(make, tmp_path):
    def work():
        os.replace = lambda *paths: kill_this()
        make("killed", [0])

    assert killed(work)
    left = sorted(path.suffix for path in (tmp_path / "killed").iterdir())
    assert left == [".tmp", ".unfinished"]
    make("killed", [0])
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["shard-00000.safetensors"]


def test_a_flipped_byte_costs_one_shard(make, tmp_path):
    make("pairs")
    before, folder = index(tmp_path / "pairs"), tmp_path / "pairs"
    bad = folder / "shard-00001.safetensors"
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 64
    bad.write_bytes(content)
    with pytest.raises(UserError, match="shard-00001.safetensors is damaged") as raised:
        index(folder)
    assert "shard-00000" not in str(raised.value) and "shard-00002" not in str(raised.value)
    kept = (folder / "shard-00000.safetensors").stat()
    bad.unlink()
    make("pairs")
    assert index(folder).equals(before)
    assert (folder / "shard-00000.safetensors").stat().st_mtime_ns == kept.st_mtime_ns


def test_more_shards_than_pairs_are_one_line_errors(make):
    with pytest.raises(UserError, match="shard 0 of 9 holds none of the 2 pairs"):
        make("pairs", [0], shards=9, count=2)


@pytest.mark.parametrize(("solver", "said"), [("ddim", "ddim, eta 0"), ("heun", "heun, edm noise levels")])
def test_the_recipe_of_a_shard_is_whole(make, teacher, tmp_path, monkeypatch, solver, said, capsys):
    solved = []

    def solve(z, texts, steps, guidance, by, spacing):
        solved.append((len(z), steps, guidance, by, spacing))
        return torch.zeros(len(z), *teacher.latent_shape)

    monkeypatch.setattr(teacher, "solve", solve)
    make("pairs", chosen=[0], solver=solver, spacing="trailing", steps=3, guidance=2.5)
    assert shard_recipe(tmp_path / "pairs" / "shard-00000.safetensors") == {
        "teacher": "teacher", "scheduler": said, "spacing": "trailing", "steps": 3, "guidance": 2.5,
        "precision": "float32", "noise": generate_pairs.NOISE, "seed": 5,
        "prompts_sha256": file_sha256(tmp_path / "prompts.parquet"),
    }  # fmt: skip
    assert {each[1:] for each in solved} == {(3, 2.5, solver, "trailing")}
    assert capsys.readouterr().err.startswith("solving the ODE of shard 0: 3/3, ")  # 10 pairs in batches of 4


def test_a_shard_that_the_disk_cannot_hold_is_not_begun(make, tmp_path, monkeypatch):
    """The second of three shards of 32 pairs holds 11: an fp16 latent, a seed and a prompt id each."""
    size = 11 * (2 * 4 * 16 * 16 + 16)
    disk = SimpleNamespace(free=size - 1)
    monkeypatch.setattr("diffusion2gan.io.shutil.disk_usage", lambda folder: {tmp_path: disk}[folder])
    with pytest.raises(UserError) as error:
        make("pairs", [1])
    assert str(error.value).startswith(f"{tmp_path / 'pairs'} has 0.0 GB left and this shard needs 0.0 GB: free some")
    assert not (tmp_path / "pairs").exists()
    disk.free = size
    make("pairs", [1])


def test_other_solvers_than_those_of_pairs_are_named(make):
    with pytest.raises(UserError) as error:
        make("pairs", [0], solver="dpm-solver")
    assert str(error.value) == "no solver of pairs 'dpm-solver': use ddim or heun"
