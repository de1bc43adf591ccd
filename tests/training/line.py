"""A training of a line, whose steps take a minute each on the clock of the tests."""

import json

import torch

from diffusion2gan.seeds import batch_indices
from diffusion2gan.training.loop import Schedule, train

SETTINGS = {"width": 3}
SCHEDULE = Schedule(20, warmup=3, decay="cosine")


class Noisy:
    """Fit a line to data in their order, with noise from torch's generator; `at` runs before a step."""

    clock = None

    averaged = "line"

    def __init__(self, at=None):
        torch.manual_seed(7)
        line = torch.nn.Linear(3, 1)
        self.modules = {"line": line}
        self.optimizers = {"line": torch.optim.AdamW(line.parameters(), 0.1)}
        self.data, self.at = torch.randn(10, 3), at or {}

    def step(self, step):
        self.clock.minutes += 1
        if step in self.at:
            self.at[step]()
        x = self.data[batch_indices(step, 4, len(self.data), seed=1)]
        loss = (self.modules["line"](x + 0.1 * torch.randn_like(x)) - x.sum(1, keepdim=True)).square().mean()
        self.optimizers["line"].zero_grad()
        loss.backward()
        self.optimizers["line"].step()
        return {"loss": loss.item() if step != self.at.get("diverge") else float("nan")}


def run(training, folder, settings=SETTINGS, schedule=SCHEDULE, **options):
    options = {"seed": 3, "ema_decay": 0.9, "checkpoint_minutes": 4, "log_every": 1} | options
    history = train(training, schedule, folder, settings, **options)
    return {name: value.clone() for name, value in training.modules["line"].state_dict().items()}, history


def kill():
    raise KeyboardInterrupt


def saved_steps(folder):
    """The numbers of finished steps of the checkpoints in a folder."""
    return [json.loads((path / "record.json").read_text())["step"] for path in sorted(folder.glob("step-*"))]
