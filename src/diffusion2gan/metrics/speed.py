"""How fast and how large is a model."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: their median, and their interquartile range as `spread`."""

    median: float
    spread: float
    repeats: int


def inference_seconds(draw: Callable[[], object], device: torch.device, warmup: int = 3, repeats: int = 10) -> Timing:
    """Time `draw`, which draws one picture, after `warmup` calls that do not count.

    The device is waited for before and after each call: kernels on a GPU run behind Python's back.
    """
    seconds = []
    for call in range(warmup + repeats):
        _wait(device)
        start = time.perf_counter()
        draw()
        _wait(device)
        if call >= warmup:
            seconds.append(time.perf_counter() - start)
    first, median, third = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, third - first, repeats)


def parameters(model: torch.nn.Module) -> int:
    """Number of weights of a model, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
