"""Training in several processes (accelerate): each computes its rows of every batch, and gradients are averaged.

Random numbers of a step are sampled for the whole batch, the same in every process, and each process uses its own
rows. So N processes or micro-batches compute the same as one process on the whole batch, except for R1, which takes
one sample in each process.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object, reduce
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial
from torch.nn.parallel import DistributedDataParallel

from diffusion2gan.discriminators.unet import blocks
from diffusion2gan.errors import UserError

TIMEOUT = timedelta(minutes=30)  # how long processes wait for each other                              # ours
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)  # whole tensors, on the CPU of the main process


def processes() -> PartialState:
    """accelerate's state of all processes. Without a GPU, they have to be connected on the CPU explicitly."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)


def device() -> torch.device:
    """The device of this process."""
    return processes().device


def count() -> int:
    """The number of processes."""
    return processes().num_processes


def is_main() -> bool:
    """Whether this is the process that writes files."""
    return processes().is_main_process


def wait() -> None:
    """Wait for all processes."""
    processes().wait_for_everyone()


def parts(batch_size: int, accumulation: int = 1) -> list[slice]:
    """The rows of a batch that this process computes, a slice for each of its `accumulation` micro-batches.

    Raises UserError when the batch does not divide.
    """
    size, rest = divmod(batch_size, count() * accumulation)
    if rest or not size:
        raise UserError(
            f"a batch of {batch_size} does not divide among {count()} process{'es' * (count() > 1)} with "
            f"{accumulation} micro-batch{'es' * (accumulation > 1)} each: choose a multiple of "
            f"{count() * accumulation}"
        )
    first = processes().process_index * accumulation * size
    return [slice(row, row + size) for row in range(first, first + accumulation * size, size)]


def wrap(module: nn.Module, shard: bool = False, half: bool = False) -> nn.Module:
    """Wrap in DDP, or FSDP per block if `shard`; no-op for one process. Create the optimizer afterwards.

    FSDP gathers the weights in bfloat16 if `half`, for networks that autocast runs in bfloat16 anyway. Gradients are
    averaged in float32.
    """
    if count() == 1:
        return module
    if not shard:
        return Accelerator(cpu=processes().device.type == "cpu").prepare_model(module)
    # inputs keep their precision: the generator needs z in float32
    bfloat16 = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    policy = {"mesh": mesh(), "mp_policy": bfloat16} if half else {"mesh": mesh()}
    unet = getattr(module, "unet", None)
    for block in blocks(unet) if unet else []:
        fully_shard(block, **policy)
    # reshard the outermost module too: otherwise its whole weights remain and are out of date after the next update
    return fully_shard(module, reshard_after_forward=True, **policy)


@cache
def mesh() -> DeviceMesh:
    """The processes as a mesh of nodes × GPUs per node, or of GPUs alone on a single node.

    FSDP shards over the last dimension, whose links are fast, and keeps a replica in each node (HSDP).
    """
    gpus = int(os.environ.get("LOCAL_WORLD_SIZE", count()))  # from torchrun
    nodes = count() // gpus
    shape = {"node": nodes, "gpu": gpus} if nodes > 1 else {"gpu": gpus}
    return init_device_mesh(device().type, tuple(shape.values()), mesh_dim_names=tuple(shape))


@contextmanager
def no_sync(network: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Keep gradients in their process if `wanted`; the next backward pass averages them."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(not wanted)
        try:
            yield
        finally:
            network.set_requires_gradient_sync(True)
    elif wanted and isinstance(network, DistributedDataParallel):
        with network.no_sync():
            yield
    else:
        yield


def replicated(module: nn.Module, shard: bool = False) -> nn.Module:
    """The module for calls that are differentiated twice. Call before `wrap`.

    After such a call, gradients are averaged by the next backward pass through the wrapped module (DDP), or at once
    (FSDP).
    """
    return Replicated(module) if shard and count() > 1 else module


class Replicated(nn.Module):
    """A network sharded by FSDP that runs on whole weights, because FSDP has no second derivatives.

    Each process keeps its shard of the gradient, averaged over the processes.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.skeleton = copy.deepcopy(module).to("meta")
        # the method, so that weights are not registered twice and are always current
        self.weights = module.parameters

    def forward(self, *args, **kwargs):
        names = [name for name, _ in self.skeleton.named_parameters()]
        whole = {name: self.whole(weight) for name, weight in zip(names, self.weights(), strict=True)}
        return torch.func.functional_call(self.skeleton, whole, args, kwargs)

    def whole(self, weight: DTensor) -> torch.Tensor:
        """All of a sharded weight; its gradient is averaged over the processes."""
        whole = weight.full_tensor(grad_placements=[Partial()] * weight.device_mesh.ndim)  # gradients are summed
        if whole.requires_grad:
            whole.register_hook(lambda gradient: gradient / count())
        return whole


def gather(items: list) -> list:
    """The items of all processes, in the order of their rows."""
    return gather_object(items) if count() > 1 else items


def mean(numbers: dict[str, float]) -> dict[str, float]:
    """The mean of each number over the processes."""
    if count() == 1:
        return numbers
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device())
    return dict(zip(numbers, reduce(values, "mean").tolist(), strict=True))


def unshard(module: nn.Module) -> None:
    """Give the main process the whole weights of a module sharded by FSDP, on the CPU, to be saved."""
    if isinstance(module, FSDPModule):
        weights = get_model_state_dict(module, options=FULL)  # empty in the other processes
        for name in [name for name, _ in module.named_parameters() if name in weights]:
            owner, _, own_name = name.rpartition(".")
            setattr(module.get_submodule(owner), own_name, nn.Parameter(weights[name]))
