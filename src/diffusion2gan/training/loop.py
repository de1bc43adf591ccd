"""The training loop of every network of the study, in one process or in many.

A training is anything with `modules`, `optimizers` and a `step`. The loop seeds every step with (seed, step), so a
training that is killed and started again ends in the same bits.
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
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from diffusion2gan.errors import UserError
from diffusion2gan.progress import track
from diffusion2gan.seeds import mix
from diffusion2gan.settings import Decay, Fitting
from diffusion2gan.training import checkpoint, distributed


class Diverged(UserError):
    """A loss is not finite. The message names the step; the last checkpoint stays."""


@dataclass(frozen=True)
class Schedule:
    """Training steps, and the learning rate over them: linear warm-up, then the `decay`.

    "constant"; "cosine" to zero; "linear": constant in the first half, then linear to zero; "steps": divided by 10
    after each 30 % of the iterations.
    """

    iterations: int
    warmup: int = 0
    decay: Decay = "constant"

    def __call__(self, step: int) -> float:
        """The factor on the learning rate at a step, in [0, 1]."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "constant":
            return rise
        if self.decay == "steps":
            return rise * 0.1 ** (10 * step // (3 * self.iterations))
        if self.decay == "linear":
            return rise * min(1.0, 2 - 2 * step / self.iterations)
        return rise * 0.5 * (1 + math.cos(math.pi * step / self.iterations))


class Training(Protocol):
    """The interface that the loop expects of a training. `averaged` names the module whose EMA is the result."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averaged: str

    def step(self, step: int) -> dict[str, float]:
        """Update the modules once. Returns the numbers for the history."""


def train(
    training: Training,
    schedule: Schedule,
    folder: Path,
    settings: dict,
    seed: int,
    ema_decay: float = 0.0,
    checkpoint_minutes: float = Fitting().checkpoint_minutes,
    log_every: int = 20,
    show: Callable[[int], dict[str, float]] | None = None,
    show_every: int = 0,
    watch: Callable[[list[dict[str, float]]], None] | None = None,
) -> pd.DataFrame:
    """Train to the end, resuming from the newest checkpoint in `folder`. Returns the history.

    `settings` are compared on resume, together with the other arguments that the result depends on. The history has a
    row for every `log_every`-th step, for the last one, and for every step after which `show` returned numbers: `step`,
    `seconds`, the learning rates, and the numbers that `step` and `show` returned. The main process calls `watch` with
    all rows whenever there is a new one.
    A checkpoint is saved when `checkpoint_minutes` have passed since the last one. With `ema_decay` > 0 the averaged
    module ends as the exponential moving average of its weights. `show` is called every `show_every` steps and at the
    end with the number of finished steps; during the call the module has its averaged weights. After sharded training
    only the main process has whole weights.
    Raises Diverged when a loss is not finite, UserError when the checkpoint in `folder` was made under
    other settings, and SystemExit(143) after saving on SIGTERM or SIGUSR2.
    """
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, where autocast leaves float32
    settings = compared(settings, schedule, seed, ema_decay)
    modules, optimizers = nn.ModuleDict(training.modules), list(training.optimizers.values())
    averaged = list(training.modules[training.averaged].parameters())
    ema = EMAModel(averaged, decay=ema_decay) if ema_decay else None
    if ema:
        modules["ema"] = nn.ParameterList(ema.shadow_params)
    first, history = 0, []

    if saved := checkpoint.find(folder, settings):
        checkpoint.load(saved, modules, optimizers)
        first, history = saved.step, saved.history
        if ema:
            ema.optimization_step = first
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
    schedulers = [LambdaLR(optimizer, schedule, last_epoch=first - 1) for optimizer in optimizers]

    start = time.monotonic() - (history[-1]["seconds"] if history else 0.0)
    saved_at = time.monotonic()
    with _until_terminated() as terminated:
        steps = range(first, schedule.iterations)
        for step in track(steps, f"training {training.averaged}") if distributed.is_main() else steps:
            torch.manual_seed(mix(seed, step))
            numbers = training.step(step)
            due = distributed.is_main() and time.monotonic() - saved_at >= 60 * checkpoint_minutes  # one clock for all
            numbers = distributed.mean({**numbers, "terminated": float(terminated()), "due": float(due)})
            stop, due = numbers.pop("terminated") > 0, numbers.pop("due") > 0  # in any process
            if not all(math.isfinite(number) for number in numbers.values()):
                kept = f"{saved.folder} stays as it was" if saved else "there is no checkpoint yet"
                raise Diverged(f"diverged at step {step}, {numbers}: try a lower learning rate ({kept})")
            rates = {f"{name}_learning_rate": each.param_groups[0]["lr"] for name, each in training.optimizers.items()}
            for scheduler in schedulers:
                scheduler.step()
            if ema:
                ema.step(averaged)
            last, shown = step + 1 == schedule.iterations, {}
            if show and (last or (step + 1) % show_every == 0):
                shown = _show_average(show, step + 1, averaged, ema)
            if step % log_every == 0 or last or shown:
                history.append({"step": step, "seconds": time.monotonic() - start, **numbers, **rates, **shown})
                if watch and distributed.is_main():
                    watch(history)
            if stop or due:
                saved = checkpoint.save(folder, step + 1, history, modules, optimizers, settings)
                saved_at = time.monotonic()
            if stop:
                raise SystemExit(143)
    if ema:
        ema.copy_to(averaged)
    for module in training.modules.values():
        distributed.unshard(module)
    return pd.DataFrame(history)


def restore(
    training: Training, schedule: Schedule, folder: Path, settings: dict, seed: int, step: int, ema_decay: float = 0.0
) -> None:
    """Give a training the weights of the checkpoint after `step` steps, and the averaged module its moving average.

    The arguments are those of `train`, and raise the same errors.
    """
    saved = checkpoint.find(folder, compared(settings, schedule, seed, ema_decay), step)
    averaged = list(training.modules[training.averaged].parameters())
    modules = nn.ModuleDict({training.averaged: training.modules[training.averaged]})
    ema = EMAModel(averaged, decay=ema_decay) if ema_decay else None
    if ema:
        modules["ema"] = nn.ParameterList(ema.shadow_params)
    checkpoint.load_weights(saved, modules)
    if ema:
        ema.copy_to(averaged)


def compared(settings: dict, schedule: Schedule, seed: int, ema_decay: float) -> dict:
    """The settings that are compared on resume: the caller's, and those of the loop that the result depends on."""
    return {**settings, "seed": seed, "ema_decay": ema_decay, **asdict(schedule)}


def _show_average(
    show: Callable[[int], dict[str, float]], step: int, weights: list[nn.Parameter], ema: EMAModel | None
) -> dict[str, float]:
    """The numbers that `show(step)` returns while the weights are their moving average."""
    if ema:
        ema.store(weights)
        ema.copy_to(weights)
    shown = show(step)
    if ema:
        ema.restore(weights)
    return shown


@contextmanager
def _until_terminated():
    """Record SIGTERM and SIGUSR2 instead of dying; yields a function that says whether one came.

    SIGUSR2 is a cluster's warning to every process. On SIGTERM torchrun would give its processes only 30 s to save.
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
