"""The loop: a killed training ends in the bits of one never killed, and refuses what it cannot continue."""

import math
import os
import signal
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from training.line import SCHEDULE, SETTINGS, Noisy, kill, run, saved_steps

from diffusion2gan.training import checkpoint
from diffusion2gan.training.loop import Diverged, Schedule, train

pytestmark = pytest.mark.usefixtures("clock")


def test_killed_and_resumed_gives_the_same_bits(tmp_path):
    expected, history = run(Noisy(), tmp_path / "whole")
    for step in (6, 13):
        with pytest.raises(KeyboardInterrupt):
            run(Noisy({step: kill}), tmp_path / "killed")
    torch.manual_seed(99)  # what a new process happens to start with must not matter
    weights, resumed = run(Noisy(), tmp_path / "killed")
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)
    assert resumed["loss"].tolist() == history["loss"].tolist()
    assert resumed["step"].tolist() == list(range(20))
    assert resumed["seconds"].is_monotonic_increasing
    assert run(Noisy(), tmp_path / "killed")[0].keys() == expected.keys()  # finished: nothing to do
    torch.testing.assert_close(run(Noisy(), tmp_path / "killed")[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGUSR2])
def test_termination_saves_and_exits(tmp_path, told):
    with pytest.raises(SystemExit) as exited:
        run(Noisy({5: lambda: os.kill(os.getpid(), told)}), tmp_path, checkpoint_minutes=1000)
    assert exited.value.code == 143
    assert saved_steps(tmp_path) == [6]
    torch.testing.assert_close(run(Noisy(), tmp_path)[0], run(Noisy(), tmp_path / "whole")[0], rtol=0, atol=0)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(Diverged, match="step 2.*no checkpoint yet"):
        run(Noisy({"diverge": 2}), tmp_path)
    with pytest.raises(Diverged, match="step 6"):
        run(Noisy({"diverge": 6}), tmp_path)
    assert saved_steps(tmp_path) == [4]
    training = Noisy()
    modules = torch.nn.ModuleDict(training.modules)
    checkpoint.load(checkpoint.Checkpoint(tmp_path / "step-00000004", 4, []), modules, [training.optimizers["line"]])
    assert not torch.equal(training.modules["line"].weight, Noisy().modules["line"].weight)
    assert all(value.isfinite().all() for value in modules.state_dict().values())


def test_the_average_is_the_exponential_moving_average_of_the_weights(tmp_path):
    """w̄ ← d w̄ + (1 - d) w with d = min(decay, (1 + k) / (10 + k)) at the k-th update."""
    training, path = Noisy(), []
    step = training.step

    def recorded(number):
        result = step(number)
        path.append(training.modules["line"].weight.detach().clone())
        return result

    training.step = recorded
    initial = training.modules["line"].weight.detach().clone()
    weights, _ = run(training, tmp_path, ema_decay=0.5)
    average = initial
    for k, weight in enumerate(path):
        decay = min(0.5, (1 + k) / (10 + k)) if k else 0.0
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(weights["weight"], average)
    torch.testing.assert_close(run(Noisy(), tmp_path / "plain", ema_decay=0.0)[0]["weight"], path[-1], rtol=0, atol=0)


def test_show_sees_the_average_and_does_not_change_the_training(tmp_path):
    expected, _ = run(Noisy(), tmp_path / "unseen")
    training, shown = Noisy(), {}
    weight = training.modules["line"].weight

    def show(step):
        shown[step] = weight.detach().clone()
        return {"error": float(step)}

    _, history = run(training, tmp_path / "shown", show=show, show_every=6)
    assert list(shown) == [6, 12, 18, 20] and history["error"].dropna().tolist() == [6, 12, 18, 20]
    assert history.loc[history["error"].notna(), "step"].tolist() == [5, 11, 17, 19]
    torch.testing.assert_close(shown[20], expected["weight"], rtol=0, atol=0)
    torch.testing.assert_close(training.modules["line"].state_dict(), expected, rtol=0, atol=0)
    assert not torch.equal(shown[6], shown[12])


def test_the_learning_rate_rises_and_falls(tmp_path):
    training, rates = Noisy(), []
    step = training.step
    training.step = lambda number: rates.append(training.optimizers["line"].param_groups[0]["lr"]) or step(number)
    run(training, tmp_path)
    assert rates[:2] == pytest.approx([0.1 / 3, 0.2 / 3], rel=0.02)
    assert max(rates) == rates[2] and rates == rates[:3] + sorted(rates[3:], reverse=True) and rates[-1] < 0.001


@pytest.mark.parametrize(
    ("decay", "factor"),
    [
        ("constant", lambda part: 1),
        ("linear", lambda part: min(1, 2 - 2 * part)),
        ("cosine", lambda part: math.cos(math.pi * part / 2) ** 2),
        ("steps", lambda part: 1 if part < 0.29 else 0.1 if part < 0.59 else 0.01 if part < 0.89 else 0.001),
    ],
)
@pytest.mark.parametrize("warmup", [0, 4])
def test_the_learning_rate_of_every_step(tmp_path, decay, factor, warmup):
    training, rates = Noisy(), []
    step = training.step
    training.step = lambda number: rates.append(training.optimizers["line"].param_groups[0]["lr"]) or step(number)
    run(training, tmp_path, schedule=Schedule(10, warmup=warmup, decay=decay))
    rise = [1 / 4, 2 / 4, 3 / 4] if warmup else []
    expected = [0.1 * up * factor(number / 10) for number, up in enumerate(rise + [1] * (10 - len(rise)))]
    assert rates == pytest.approx(expected)


def test_every_step_has_random_numbers_of_its_own(tmp_path):
    def drawn(seed):
        training, numbers = Noisy(), []
        step = training.step
        training.step = lambda number: numbers.append(torch.rand(1).item()) or step(number)
        run(training, tmp_path / str(seed), seed=seed)
        return numbers

    assert len({*drawn(3), *drawn(4)}) == 40


@pytest.mark.parametrize("there", [True, False], ids=["gpu", "cpu"])
def test_a_training_uses_tf32_where_there_is_a_gpu(tmp_path, monkeypatch, there):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    with pytest.raises(AttributeError):  # nothing else is needed of a GPU before the training is looked at
        train(object(), SCHEDULE, tmp_path, SETTINGS, seed=3)
    assert asked == (["high"] if there else [])


@pytest.mark.parametrize("kernels", ["fused", "capturable", "plain"])
def test_a_step_is_counted_on_the_device_of_the_weight_only_by_its_kernels(kernels):
    """`meta` stands for a GPU."""
    module = torch.nn.Linear(3, 2, device="meta")
    group = {"params": list(module.parameters())} | ({} if kernels == "plain" else {kernels: True})
    optimizer = SimpleNamespace(param_groups=[group], state=defaultdict(dict))
    tensors = {"line.weight": (2, 3), "optimizer.line.weight.step": (), "optimizer.line.weight.exp_avg": (2, 3)}
    saved = {
        name: SimpleNamespace(size=torch.Size(size), properties=SimpleNamespace(dtype=torch.float64))
        for name, size in tensors.items()
    }
    checkpoint._add_states(
        SimpleNamespace(state_dict_metadata=saved), torch.nn.ModuleDict({"line": module}), [optimizer]
    )
    ((weight, state),) = optimizer.state.items()
    assert weight is module.weight and set(state) == {"step", "exp_avg"}
    assert state["step"].device.type == ("cpu" if kernels == "plain" else "meta")
    assert state["step"].shape == () and state["step"].dtype == torch.float64
    assert state["exp_avg"].device.type == "meta" and state["exp_avg"].shape == (2, 3)


def test_the_seconds_go_on_where_the_checkpoint_was(tmp_path, clock):
    """A killed training costs what its steps took, without those that are done again and the time between."""
    with pytest.raises(KeyboardInterrupt):
        run(Noisy({13: kill}), tmp_path)
    clock.minutes += 1000
    _, history = run(Noisy(), tmp_path)
    assert history["seconds"].tolist() == [60 * (step + 1) for step in range(20)]
