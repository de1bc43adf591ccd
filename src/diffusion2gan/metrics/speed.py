"""How fast and how large is a model, or a loss."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: their median, and their interquartile range as `spread`."""

    median: float
    spread: float
    repeats: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the median (McGill et al. 1978)."""
        return 1.57 * self.spread / self.repeats**0.5


def seconds(call: Callable[[], object], device: torch.device, warmup: int = 3, repeats: int = 10) -> Timing:
    """Time `call` after `warmup` calls that do not count.

    The device is waited for before and after each call: kernels on a GPU run behind Python's back.
    """
    measured = []
    for number in range(warmup + repeats):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        if number >= warmup:
            measured.append(time.perf_counter() - start)
    first, median, third = statistics.quantiles(measured, n=4, method="inclusive")
    return Timing(median, third - first, repeats)


def extra_memory(call: Callable[[], object], device: torch.device) -> int:
    """Bytes that a call needs at its peak, above what was held before it.

    On a GPU what torch allocates; on the CPU the process's resident memory, as Linux counts it.
    """
    call()  # the first call also holds what libraries keep for later ones
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - held
    ctypes.CDLL(None).malloc_trim(0)  # gives freed memory back, which would hide what the call asks for
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    held = _resident("VmRSS")
    call()
    return _resident("VmHWM") - held


def parameters(model: torch.nn.Module) -> int:
    """Number of weights of a model, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _resident(which: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{which}:")[1].split()[0])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
