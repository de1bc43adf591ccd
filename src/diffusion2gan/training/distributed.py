"""Several processes that train as one (accelerate): each has its rows of every batch, gradients are averaged.

What is random in a step is drawn for the whole batch, the same in every process, and each keeps its
rows; so N processes, or micro-batches, compute what one process computes of the batch at once.
"""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object, reduce
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from diffusion2gan.errors import UserError


@dataclass(frozen=True)
class Fitting:
    """How a batch is made to fit the machines; it moves no result by more than rounding.

    `accumulation` micro-batches a process and step; `gradient_checkpointing` computes activations twice
    instead of keeping them; `shard` cuts weights, gradients and optimizer among the processes (FSDP).
    """

    accumulation: int = 1
    gradient_checkpointing: bool = False
    shard: bool = False


def processes() -> PartialState:
    """What accelerate knows of the processes; without a GPU it must be told that they are to meet all the same."""
    return PartialState(cpu=not torch.cuda.is_available())


def device() -> torch.device:
    """The device of this process."""
    return processes().device


def count() -> int:
    """How many processes there are."""
    return processes().num_processes


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return processes().is_main_process


def wait() -> None:
    """Return once every process has come here."""
    processes().wait_for_everyone()


def parts(batch_size: int, accumulation: int = 1) -> list[slice]:
    """The rows of a batch that are this process's, in as many micro-batches as it accumulates.

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


def spread(module: nn.Module, shard: bool = False) -> nn.Module:
    """The module as all processes train it; an optimizer of its weights is to be made after this.

    Gradients are averaged (DDP), or weights are cut block by block as well (FSDP). One process has it as it is.
    """
    if count() == 1:
        return module
    if not shard:
        return Accelerator(cpu=processes().device.type == "cpu").prepare_model(module)
    unet = getattr(module, "unet", None)
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks] if unet else []:
        fully_shard(block)
    # also the outermost: between passes no process then holds whole weights that an update has made old
    return fully_shard(module, reshard_after_forward=True)


def unsynchronised(network: nn.Module):
    """Within, gradients stay in their process, for the next backward pass to average."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def alone(module: nn.Module, shard: bool = False) -> nn.Module:
    """The module as each process computes it for itself; to be asked for before the module is spread.

    Every process must compute the same, so that there is nothing to average.
    """
    return Whole(module) if shard and count() > 1 else module


class Whole(nn.Module):
    """A network whose weights FSDP cuts, computed on whole ones: FSDP has no second derivatives.

    Each process keeps its part of the gradient.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.skeleton = copy.deepcopy(module).to("meta")
        self.weights = module.parameters  # a function: no submodule, and never out of date

    def forward(self, *args, **kwargs):
        names = [name for name, _ in self.skeleton.named_parameters()]
        whole = {name: _whole(weight) for name, weight in zip(names, self.weights(), strict=True)}
        return torch.func.functional_call(self.skeleton, whole, args, kwargs)


def everyones(items: list) -> list:
    """The items of all processes, in the order of their rows."""
    return gather_object(items) if count() > 1 else items


def mean(numbers: dict[str, float]) -> dict[str, float]:
    """The mean of each number over the processes."""
    if count() == 1:
        return numbers
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device())
    return dict(zip(numbers, reduce(values, "mean").tolist(), strict=True))


def whole_state(state: dict | list | torch.Tensor | float) -> dict | list | torch.Tensor | float:
    """A tree of state whose cut tensors are whole again, on the CPU of the main process; elsewhere they are empty."""
    if isinstance(state, dict):
        return {name: whole_state(each) for name, each in state.items()}
    if isinstance(state, list):
        return [whole_state(each) for each in state]
    if not isinstance(state, DTensor):
        return state
    whole = state.full_tensor()
    return whole.cpu() if is_main() else whole.new_empty(0)


def cut_like(whole: dict, weights: dict) -> dict:
    """State of whole tensors, each cut among the processes as the weight of its name, if that has its shape."""
    return {
        name: distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
        if isinstance(weight := weights[name], DTensor) and value.shape == weight.shape
        else value
        for name, value in whole.items()
    }


def bring_together(module: nn.Module) -> None:
    """Make the cut weights of a module whole again, after training; only the main process has their values."""
    for owner, name, weight in list(_weights(module)):
        if isinstance(weight, DTensor):
            setattr(owner, name, nn.Parameter(whole_state(weight.detach())))


def _weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for owner in module.modules():
        for name, weight in owner.named_parameters(recurse=False):
            yield owner, name, weight


def _whole(weight: torch.Tensor) -> torch.Tensor:
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
