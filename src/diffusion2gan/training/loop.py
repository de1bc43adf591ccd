"""One training loop for every network of the study, in one process or in many.

A training is anything with `modules`, `optimizers` and a `step`. The loop draws every random number
of a step from (seed, step), so that a killed training, started again, ends in the same bits.
"""

import math
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch
from diffusers.training_utils import EMAModel

from diffusion2gan.errors import UserError
from diffusion2gan.progress import track
from diffusion2gan.seeds import mix
from diffusion2gan.training import checkpoint, distributed


class Diverged(UserError):
    """A loss is not finite; the message names the step, the last checkpoint stays."""


@dataclass(frozen=True)
class Schedule:
    """How long, and how the learning rate moves: linear warm-up, then constant, cosine to zero, or
    "linear": constant in the first half and straight to zero in the second.
    """

    iterations: int
    warmup: int = 0
    decay: str = "constant"

    def __call__(self, step: int) -> float:
        """The factor on the learning rate at a step, in (0, 1]."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "constant":
            return rise
        if self.decay == "linear":
            return rise * min(1.0, 2 - 2 * step / self.iterations)
        return rise * 0.5 * (1 + math.cos(math.pi * step / self.iterations))


class Training(Protocol):
    """What the loop asks of a training; `averaged` names the module whose EMA is the result."""

    modules: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averaged: str

    def step(self, step: int) -> dict[str, float]:
        """Update the modules once; return the numbers for the history."""


def train(
    training: Training,
    schedule: Schedule,
    folder: Path,
    settings: dict,
    seed: int,
    ema_decay: float = 0.0,
    checkpoint_every: int = 500,
    log_every: int = 20,
    show: Callable[[int], None] | None = None,
    show_every: int = 0,
) -> pd.DataFrame:
    """Run the training to its end, resuming from `folder`; return its history.

    With `ema_decay` > 0 the averaged module ends as the exponential moving average of its weights, and
    is that whenever `show` is called, after every `show_every` steps, with their number. In the end only
    the main process is sure to have the weights, where they were cut among processes.
    Raises Diverged when a loss is not finite, UserError when `folder` holds a checkpoint made under
    other settings, and SystemExit(143) after saving on SIGTERM or SIGUSR2.
    """
    path = folder / "state.pt"
    settings = {**settings, "seed": seed, "ema_decay": ema_decay, **asdict(schedule)}
    averaged = training.modules[training.averaged]
    ema = EMAModel(averaged.parameters(), decay=ema_decay) if ema_decay else None
    first, history = 0, []
    rates = {name: [g["lr"] for g in o.param_groups] for name, o in training.optimizers.items()}

    def save(step: int) -> None:
        state = {
            "step": step,
            "history": history,
            "modules": {name: module.state_dict() for name, module in training.modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in training.optimizers.items()},
            "ema": ema.state_dict() if ema else {},
        }
        state = distributed.whole_state(state)
        if distributed.is_main():
            checkpoint.save(path, state, settings)
        distributed.wait()

    if saved := checkpoint.load(path, settings):
        first, history = saved["step"], saved["history"]
        for name, module in training.modules.items():
            module.load_state_dict(distributed.cut_like(saved["modules"][name], module.state_dict()))
        for name, optimizer in training.optimizers.items():
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            saved["optimizers"][name]["state"] = {
                number: distributed.cut_like(state, dict.fromkeys(state, weights[number]))
                for number, state in saved["optimizers"][name]["state"].items()
            }
            optimizer.load_state_dict(saved["optimizers"][name])
        if ema:
            shadow = distributed.cut_like(
                dict(enumerate(saved["ema"]["shadow_params"])), dict(enumerate(ema.shadow_params))
            )
            ema.load_state_dict(saved["ema"] | {"shadow_params": list(shadow.values())})
            ema.to(next(averaged.parameters()).device)

    start = time.monotonic() - (history[-1]["seconds"] if history else 0.0)
    with _until_terminated() as terminated:
        steps = range(first, schedule.iterations)
        for step in track(steps, f"training {training.averaged}") if distributed.is_main() else steps:
            torch.manual_seed(mix(seed, step))
            for name, optimizer in training.optimizers.items():
                for group, rate in zip(optimizer.param_groups, rates[name], strict=True):
                    group["lr"] = rate * schedule(step)
            numbers = distributed.mean({**training.step(step), "terminated": float(terminated())})
            stop = numbers.pop("terminated") > 0  # in any process
            if not all(math.isfinite(number) for number in numbers.values()):
                kept = f"{path} stays as it was" if path.exists() else "there is no checkpoint yet"
                raise Diverged(f"diverged at step {step}, {numbers}: try a lower learning rate ({kept})")
            if ema:
                ema.step(averaged.parameters())
            if step % log_every == 0 or step + 1 == schedule.iterations:
                history.append({"step": step, "seconds": time.monotonic() - start, **numbers})
            if show and (step + 1) % show_every == 0:
                with _averaged(averaged, ema):
                    show(step + 1)
            if stop or (step + 1) % checkpoint_every == 0:
                save(step + 1)
            if stop:
                raise SystemExit(143)
    save(schedule.iterations)
    if ema:
        ema.copy_to(averaged.parameters())
    for module in training.modules.values():
        distributed.bring_together(module)
    return pd.DataFrame(history)


@contextmanager
def _averaged(module: torch.nn.Module, ema: EMAModel | None):
    """Within, the module has its averaged weights."""
    pairs = list(zip(module.parameters(), ema.shadow_params, strict=True)) if ema else []
    _swap(pairs)
    try:
        yield
    finally:
        _swap(pairs)


@torch.no_grad()
def _swap(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for weight, average in pairs:
        kept = weight.clone()
        weight.copy_(average)
        average.copy_(kept)


@contextmanager
def _until_terminated():
    """Within, SIGTERM and SIGUSR2 only set the flag that the yielded function reads.

    SIGUSR2 is a cluster's warning to every process; torchrun, on SIGTERM, would give its processes 30 s to save.
    """
    received = []
    previous = {
        number: signal.signal(number, lambda *_: received.append(True)) for number in (signal.SIGTERM, signal.SIGUSR2)
    }
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
