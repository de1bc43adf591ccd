"""Count the bytes of live tensors: of fake tensors, which have no data, or of real ones."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion2gan.memory.cuda import cuda_autocast
from diffusion2gan.memory.fakes import CPU, DEVICE, FAKES, FakeTensor

GIB = 2**30


class Count(TorchDispatchMode):
    """Counts the bytes of the storages that operators allocate while it is active: `now` in use, and at most `peak`.

    With `fakes_only` real tensors are left out: at full size the networks are fake, and only small things, such as
    the order of the data, are real.
    """

    def __init__(self, fakes_only: bool = True):
        super().__init__()
        self.kind = FakeTensor if fakes_only else torch.Tensor
        self.live: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is DEVICE and isinstance(args[0], FakeTensor):
            return CPU
        out = func(*args, **(kwargs or {}))
        for tensor in (out,) if isinstance(out, torch.Tensor) else pytree.tree_leaves(out):
            self.hold(tensor)
        return out

    def hold(self, tensor: object, share: float = 1.0) -> None:
        """Count a tensor from now on, or a `share` in [0, 1] of it, if FSDP keeps only that share on this GPU."""
        if not isinstance(tensor, self.kind) or tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, round(storage.nbytes() * share)
        if key not in self.live:
            weakref.finalize(storage, self._free, key)
        elif share == 1.0 and self.live[key] != storage.nbytes():
            return  # a view of something of which only a share is kept
        self.now += size - self.live.get(key, 0)
        self.live[key] = size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int) -> None:
        self.now -= self.live.pop(key)


@contextmanager
def counting() -> Iterator[Count]:
    """Count the bytes of fake tensors under CUDA's autocast."""
    with cuda_autocast(), patch.object(nn.Module, "_apply", _replace), Count() as memory:
        yield memory


def _replace(module: nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """`Module._apply`, for `to` and the like: torch's own swaps weights in place, which fake ones do not allow."""
    for each in module.modules():
        for name, weight in each._parameters.items():
            if weight is not None and (converted := convert(weight)) is not weight:
                each._parameters[name] = nn.Parameter(converted.detach(), weight.requires_grad)
        for name, buffer in each._buffers.items():
            each._buffers[name] = buffer if buffer is None else convert(buffer)
    return module


def fake(build: Callable[[], nn.Module], dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
    """The network that `build` makes, with fake weights: it takes no memory, whatever its size.

    On the device "meta" it has no weights at all, and they are not counted.
    """
    with torch.device("meta"):
        network = build()
    for module in network.modules() if device != "meta" else []:
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(_empty(weight, dtype), weight.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else _empty(buffer, dtype)
    return network


def _empty(meta: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    with FAKES:
        return torch.empty_like(meta, dtype=dtype if meta.is_floating_point() else None, device="cpu")
