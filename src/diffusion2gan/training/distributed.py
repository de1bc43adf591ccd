"""Training in several processes (accelerate): each computes its rows of every batch, and gradients are averaged.

Random numbers of a step are sampled for the whole batch, the same in every process, and each process uses its own
rows. So N processes or micro-batches compute the same as one process on the whole batch.
"""

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object, reduce
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from diffusion2gan.errors import UserError

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)  # whole tensors, on the CPU of the main process


def processes() -> PartialState:
    """accelerate's state of all processes. Without a GPU, they have to be connected on the CPU explicitly."""
    return PartialState(cpu=not torch.cuda.is_available())


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


def wrap(module: nn.Module, shard: bool = False) -> nn.Module:
    """Wrap in DDP, or FSDP per block if `shard`; no-op for one process. Create the optimizer afterwards."""
    if count() == 1:
        return module
    if not shard:
        return Accelerator(cpu=processes().device.type == "cpu").prepare_model(module)
    unet = getattr(module, "unet", None)
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks] if unet else []:
        fully_shard(block)
    # reshard the outermost module too: else whole weights would remain, out of date after the next update
    return fully_shard(module, reshard_after_forward=True)


def no_sync(network: nn.Module, wanted: bool = True) -> AbstractContextManager:
    """Keep gradients in their process if `wanted`; the next backward pass averages them."""
    return network.no_sync() if wanted and isinstance(network, DistributedDataParallel) else nullcontext()


def replicated(module: nn.Module, shard: bool = False) -> nn.Module:
    """The module for calls without gradient averaging, which must be the same in all processes. Call before `wrap`."""
    return Replicated(module) if shard and count() > 1 else module


class Replicated(nn.Module):
    """A network sharded by FSDP that runs on whole weights, because FSDP has no second derivatives.

    Each process keeps the gradient of its shard.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.skeleton = copy.deepcopy(module).to("meta")
        # the method, so that weights are not registered twice and are always current
        self.weights = module.parameters

    def forward(self, *args, **kwargs):
        names = [name for name, _ in self.skeleton.named_parameters()]
        whole = {name: weight.full_tensor() for name, weight in zip(names, self.weights(), strict=True)}
        return torch.func.functional_call(self.skeleton, whole, args, kwargs)


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
