"""Speed, memory and size of a model or a loss."""

import ctypes
import gc
import statistics
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils import benchmark


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median, and the interquartile range as `spread`."""

    median: float
    spread: float
    repeats: int

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval of the median (McGill et al. 1978)."""
        return 1.57 * self.spread / self.repeats**0.5


def seconds(call: Callable[[], object], warmup: int = 3, repeats: int = 10) -> Timing:
    """Time `repeats` calls after `warmup` untimed ones; torch's timer synchronises the GPU around each call."""
    measured = timeit.repeat(call, number=1, repeat=warmup + repeats, timer=benchmark.timer)[warmup:]
    first, median, third = statistics.quantiles(measured, n=4, method="inclusive")
    return Timing(median, third - first, repeats)


def extra_memory(call: Callable[[], object], device: torch.device) -> int:
    """Peak memory of a call in bytes, above the memory used before it.

    On a GPU the memory that torch allocates; on the CPU the resident memory of the process (Linux only).
    """
    call()  # the first call also allocates what libraries keep for later calls
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - held
    ctypes.CDLL(None).malloc_trim(0)  # returns freed memory, which the call would otherwise reuse unseen
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    held = _resident("VmRSS")
    call()
    return _resident("VmHWM") - held


def parameters(model: torch.nn.Module) -> int:
    """Number of parameters of a model; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _resident(which: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{which}:")[1].split()[0])
