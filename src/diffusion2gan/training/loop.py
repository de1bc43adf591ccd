"""One training loop for every network of the study.

A training is anything with `modules`, `optimizers` and a `step`. The loop draws every random number
of a step from (seed, step), so that a killed training, started again, ends in the same bits.
"""

import math
import signal
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch
from diffusers.training_utils import EMAModel

from diffusion2gan.errors import UserError
from diffusion2gan.training import checkpoint
from diffusion2gan.training.data_order import mix
from diffusion2gan.training.progress import track


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
) -> pd.DataFrame:
    """Run the training to its end, resuming from `folder`; return its history.

    With `ema_decay` > 0 the averaged module ends as the exponential moving average of its weights.
    Raises Diverged when a loss is not finite, UserError when `folder` holds a checkpoint made under
    other settings, and SystemExit(143) after saving on SIGTERM.
    """
    path = folder / "state.pt"
    settings = {**settings, "seed": seed, "ema_decay": ema_decay, **asdict(schedule)}
    averaged = training.modules[training.averaged]
    ema = EMAModel(averaged.parameters(), decay=ema_decay) if ema_decay else None
    first, history = 0, []
    rates = {name: [g["lr"] for g in o.param_groups] for name, o in training.optimizers.items()}

    def state(step: int) -> dict:
        return {
            "step": step,
            "history": history,
            "modules": {name: module.state_dict() for name, module in training.modules.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in training.optimizers.items()},
            "ema": ema.state_dict() if ema else {},
        }

    if saved := checkpoint.load(path, settings):
        first, history = saved["step"], saved["history"]
        for name, module in training.modules.items():
            module.load_state_dict(saved["modules"][name])
        for name, optimizer in training.optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        if ema:
            ema.load_state_dict(saved["ema"])
            ema.to(next(averaged.parameters()).device)

    start = time.monotonic() - (history[-1]["seconds"] if history else 0.0)
    with _until_terminated() as terminated:
        steps = range(first, schedule.iterations)
        for step in track(steps, f"training {training.averaged}", total=len(steps)):
            torch.manual_seed(mix(seed, step))
            for name, optimizer in training.optimizers.items():
                for group, rate in zip(optimizer.param_groups, rates[name], strict=True):
                    group["lr"] = rate * schedule(step)
            numbers = training.step(step)
            if not all(math.isfinite(number) for number in numbers.values()):
                kept = f"{path} stays as it was" if path.exists() else "there is no checkpoint yet"
                raise Diverged(f"diverged at step {step}, {numbers}: try a lower learning rate ({kept})")
            if ema:
                ema.step(averaged.parameters())
            if step % log_every == 0 or step + 1 == schedule.iterations:
                history.append({"step": step, "seconds": time.monotonic() - start, **numbers})
            if terminated() or (step + 1) % checkpoint_every == 0:
                checkpoint.save(path, state(step + 1), settings)
            if terminated():
                raise SystemExit(143)
    checkpoint.save(path, state(schedule.iterations), settings)
    if ema:
        ema.copy_to(averaged.parameters())
    return pd.DataFrame(history)


@contextmanager
def _until_terminated():
    """Within, SIGTERM only sets the flag that the yielded function reads."""
    received = []
    previous = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)
