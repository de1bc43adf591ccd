"""Pairs are read ahead in a thread: the same pairs, in time; and what a training does on a GPU only."""

import threading
import types

import pytest
import torch
from built import pairs

from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.pairs.dataset import PairDataset, Pairs
from diffusion2gan.seeds import batch_indices
from diffusion2gan.settings import Fitting, RegressionSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.read_ahead import ReadAhead
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.student import AHEAD, StudentTraining, adamw


class Watched:
    """Pairs in memory that record which thread reads which of them; `broken` cannot be read."""

    captions = ("a fox",)

    def __init__(self, broken=()):
        self.reads, self.broken = [], broken

    def __len__(self):
        return 1000

    def batch(self, indices):
        self.reads.append((threading.current_thread() is threading.main_thread(), indices.tolist()))
        if set(indices.tolist()) & set(self.broken):
            raise UserError("a shard is missing")
        x = indices.float().view(-1, 1, 1, 1).expand(-1, 4, 16, 16).clone()
        return Pairs(-x, ["a fox"] * len(x), x)


def wait_for(reader):
    reader.thread.submit(lambda: None).result()


def test_the_pairs_are_those_of_the_dataset(tmp_path):
    dataset = PairDataset(pairs(tmp_path / "pairs", "teacher", torch.randn(40, 4, 16, 16)))
    order = [batch_indices(step, 8, 40, seed=1) for step in range(10)]
    reader = ReadAhead(dataset)
    for step, indices in enumerate(order):
        reader.prepare(order[step + 1 : step + 4])
        found, expected = reader.batch(indices), dataset.batch(indices)
        assert torch.equal(found.z, expected.z) and torch.equal(found.x, expected.x)
        assert found.captions == expected.captions
    assert not reader.coming


def test_a_training_finds_its_pairs_already_read(small_teacher_folder):
    teacher, source = Teacher(str(small_teacher_folder)), Watched()
    settings = RegressionSettings(loss="mse", iterations=6, batch_size=4, seed=2)
    loss = lambda x0, x1, part: (x0 - x1).square().mean()  # noqa: E731
    student = Generator.from_teacher(teacher.path)
    training = RegressionTraining(student, teacher, source, loss, settings, Fitting(accumulation=2))
    order = [batch_indices(step, 4, 1000, seed=2).tolist() for step in range(6)]
    source.reads.clear()  # of the check of the shape
    for step in range(6):
        wait_for(training.reader)
        before = [indices for _, indices in source.reads]
        last = min(step + AHEAD, 6) if step else 0
        assert before == [part for indices in order[:last] for part in (indices[:2], indices[2:])]
        batches = training.batches(step)
        assert [batch.x[:, 0, 0, 0].tolist() for batch in batches] == [order[step][:2], order[step][2:]]
    assert not any(main for main, _ in source.reads)


def test_what_cannot_be_read_is_an_error_at_its_step():
    reader = ReadAhead(Watched(broken=[5]))
    order = [torch.tensor([step, step + 100]) for step in range(8)]
    reader.prepare(order)
    wait_for(reader)
    for indices in order[:5]:
        reader.batch(indices)
    with pytest.raises(UserError, match="a shard is missing"):
        reader.batch(order[5])
    assert reader.batch(order[6]).x[0, 0, 0, 0] == 6


def test_pairs_for_a_gpu_are_pinned_in_the_thread(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(threading.current_thread()) or tensor)
    reader = ReadAhead(Watched(), pin=True)
    reader.prepare([torch.tensor([1])])
    reader.batch(torch.tensor([1]))
    assert len(pinned) == 2 and threading.main_thread() not in pinned


@pytest.mark.parametrize(("shard", "layout"), [(False, torch.channels_last), (True, torch.contiguous_format)])
def test_on_a_gpu_convolutions_are_channels_last_but_fsdp_takes_contiguous_weights(monkeypatch, shard, layout):
    moved = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *where, **how: moved.append((where, how)) or module)
    settings = RegressionSettings(loss="mse", iterations=1, batch_size=1)
    training = types.SimpleNamespace(
        fitting=Fitting(shard=shard), settings=settings, device=torch.device("cuda"), modules={}
    )
    StudentTraining.add(training, "student", torch.nn.Conv2d(4, 4, 3))
    assert moved == [((training.device,), {"memory_format": layout})]


def test_the_optimizer_is_one_kernel():
    assert adamw(torch.nn.Linear(1, 1), 1e-3).defaults["fused"] is True


def test_only_the_students_u_net_is_compiled_and_only_if_asked():
    def compiled(name, **fitting):
        settings = RegressionSettings(loss="mse", iterations=1, batch_size=1)
        training = types.SimpleNamespace(
            fitting=Fitting(**fitting), settings=settings, device=torch.device("cpu"), modules={}
        )
        network = torch.nn.Module()
        network.unet = torch.nn.Linear(1, 1)
        StudentTraining.add(training, name, network)
        assert [key for key, _ in network.named_parameters()] == ["unet.weight", "unet.bias"]
        return network.unet._compiled_call_impl is not None

    assert compiled("student", compile=True)
    assert not compiled("discriminator", compile=True) and not compiled("student")
