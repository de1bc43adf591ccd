"""What is asked of torch and accelerate when there are two processes; test_distributed.py starts them for real."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.training import distributed


@pytest.fixture
def two(monkeypatch):
    """Two processes, this being the first; what they exchange goes through the returned functions' lists."""
    asked = SimpleNamespace(sharded=[], reduced=[], prepared=[])
    monkeypatch.setattr(distributed, "count", lambda: 2)
    monkeypatch.setattr(distributed, "mesh", lambda: "mesh")
    monkeypatch.setattr(distributed, "gather_object", lambda items: [*items, *(f"their {each}" for each in items)])

    def reduce(values, how):
        asked.reduced.append((values.dtype, how))
        return values + 1

    def fully_shard(module, **options):
        asked.sharded.append((module, options))
        return module

    class Accelerator:
        def __init__(self, cpu):
            self.cpu = cpu

        def prepare_model(self, module):
            asked.prepared.append((module, self.cpu))
            return "wrapped"

    for replacement in (reduce, fully_shard, Accelerator):
        monkeypatch.setattr(distributed, replacement.__name__, replacement)
    return asked


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.unet = nn.Module()
        self.unet.down_blocks = nn.ModuleList([nn.Linear(1, 1), nn.Linear(2, 2)])
        self.unet.mid_block, self.unet.up_blocks = nn.Linear(3, 3), nn.ModuleList([nn.Linear(4, 4)])


def test_items_and_means_are_those_of_all_processes(two, monkeypatch):
    assert distributed.gather(["a", "b"]) == ["a", "b", "their a", "their b"]
    assert distributed.mean({"loss": 1.5, "top1": 0.25}) == {"loss": 2.5, "top1": 1.25}
    assert two.reduced == [(torch.float64, "mean")]
    monkeypatch.setattr(distributed, "count", lambda: 1)
    assert distributed.gather(["a"]) == ["a"] and distributed.mean({"loss": 1.5}) == {"loss": 1.5}
    assert len(two.reduced) == 1


def test_each_block_is_sharded_and_then_the_whole(two):
    network, outermost = Network(), {"reshard_after_forward": True, "mesh": "mesh"}
    assert distributed.wrap(network, shard=True) is network
    unet = network.unet
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    assert [module for module, _ in two.sharded] == [*blocks, network]
    assert [options for _, options in two.sharded] == [{"mesh": "mesh"}] * 4 + [outermost]
    alone = nn.Linear(5, 5)
    distributed.wrap(alone, shard=True)
    assert two.sharded[-1] == (alone, outermost) and len(two.sharded) == 6
    assert not two.prepared


def test_without_sharding_a_network_is_replicated(two):
    network = Network()
    assert distributed.wrap(network) == "wrapped" and two.prepared == [(network, True)] and not two.sharded
    assert distributed.replicated(network) is network
    replicated = distributed.replicated(network, shard=True)
    assert isinstance(replicated, distributed.Replicated)
    assert all(weight.device.type == "meta" for weight in replicated.skeleton.parameters())
    assert list(replicated.weights()) == list(network.parameters())


def test_only_the_process_with_whole_weights_gets_them(monkeypatch):
    network, asked = Network(), []
    whole = {name: torch.full_like(weight, 7.0) for name, weight in network.named_parameters()}
    monkeypatch.setattr(distributed, "FSDPModule", Network)
    for given in ({}, whole):
        monkeypatch.setattr(
            distributed, "get_model_state_dict", lambda module, options, given=given: asked.append(options) or given
        )
        before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        distributed.unshard(network)
        found = dict(network.named_parameters())
        assert found.keys() == before.keys()
        assert all(torch.equal(weight, (given or before)[name]) for name, weight in found.items())
    assert asked == [distributed.FULL] * 2
    distributed.unshard(nn.Linear(1, 1))  # not sharded
    assert len(asked) == 2


@pytest.mark.parametrize("there", [True, False], ids=["gpu", "cpu"])
def test_processes_meet_on_their_gpus_or_on_the_cpu_and_wait_for_half_an_hour(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(distributed, "PartialState", lambda **given: given)
    assert distributed.processes() == {"cpu": not there, "timeout": timedelta(minutes=30)}


@pytest.mark.parametrize(
    ("count", "accumulation", "said"),
    [
        (1, 1, "among 1 process with 1 micro-batch each: choose a multiple of 1"),
        (2, 1, "among 2 processes with 1 micro-batch each: choose a multiple of 2"),
        (1, 2, "among 1 process with 2 micro-batches each: choose a multiple of 2"),
        (2, 3, "among 2 processes with 3 micro-batches each: choose a multiple of 6"),
    ],
)
def test_a_batch_that_does_not_divide_is_told_by_what(monkeypatch, count, accumulation, said):
    monkeypatch.setattr(distributed, "count", lambda: count)
    batch = 0 if count * accumulation == 1 else 7
    with pytest.raises(UserError) as error:
        distributed.parts(batch, accumulation)
    assert str(error.value) == f"a batch of {batch} does not divide {said}"
