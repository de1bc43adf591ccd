"""The loop: a killed training ends in the bits of one never killed, and refuses what it cannot continue."""

import json
import math
import os
import pickle
import signal
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.seeds import batch_indices, mix
from diffusion2gan.training import checkpoint, loop
from diffusion2gan.training.loop import Diverged, Schedule, train

SETTINGS = {"width": 3}
SCHEDULE = Schedule(20, warmup=3, decay="cosine")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that shows the minutes of `clock.minutes`; a step of `Noisy` takes one."""

    class Clock:
        minutes = 0.0

        def monotonic(self):
            return 60 * self.minutes

    Noisy.clock = Clock()
    monkeypatch.setattr(loop, "time", Noisy.clock)
    return Noisy.clock


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


@pytest.mark.parametrize("change", [{"settings": {"width": 4}}, {"seed": 4}, {"schedule": Schedule(30, warmup=3)}])
def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path, change):
    run(Noisy(), tmp_path)
    name = {
        "settings": "width was 3 and is 4",
        "seed": "seed was 3 and is 4",
        "schedule": r"\(decay was 'cosine' and is 'constant'; iterations was 20 and is 30\): delete",
    }
    with pytest.raises(UserError, match=name[next(iter(change))]):
        run(Noisy(), tmp_path, **change)


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
    run(training, tmp_path / "shown", show=lambda step: shown.update({step: weight.detach().clone()}), show_every=5)
    assert list(shown) == [5, 10, 15, 20]
    torch.testing.assert_close(shown[20], expected["weight"], rtol=0, atol=0)
    torch.testing.assert_close(training.modules["line"].state_dict(), expected, rtol=0, atol=0)
    assert not torch.equal(shown[5], shown[10])


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


def test_checkpoints_are_written_by_the_clock_and_the_last_two_are_kept(tmp_path, clock):
    training, saved = Noisy(), []
    step = training.step

    def looking(number):
        saved.append(saved_steps(tmp_path))
        clock.minutes += 9 * (number == 6)  # a slow step
        return step(number)

    training.step = looking
    _, history = run(training, tmp_path, schedule=Schedule(10), checkpoint_minutes=3, log_every=3)
    assert history["step"].tolist() == [0, 3, 6, 9]
    assert saved == [[]] * 3 + [[3]] * 3 + [[3, 6]] + [[6, 7]] * 3
    assert saved_steps(tmp_path) == [7, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000007", "step-00000010"]


def test_a_checkpoint_that_was_not_finished_is_not_used_and_goes(tmp_path, monkeypatch):
    def replaced(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", replaced)
        with pytest.raises(KeyboardInterrupt):
            run(Noisy(), tmp_path)
    assert saved_steps(tmp_path) == [] and len(list(tmp_path.iterdir())) == 1
    torch.testing.assert_close(run(Noisy(), tmp_path)[0], run(Noisy(), tmp_path / "whole")[0], rtol=0, atol=0)
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_checkpoint_is_one_line_and_the_one_before_goes_on(tmp_path):
    expected, _ = run(Noisy(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Noisy({13: kill}), tmp_path)
    assert saved_steps(tmp_path) == [8, 12]
    newest = tmp_path / "step-00000012"
    for name in ("__0_0.distcp", ".metadata"):
        whole = (newest / name).read_bytes()
        (newest / name).write_bytes(whole[:-100])
        with pytest.raises(
            UserError, match=f"^the checkpoint {newest} cannot be read .*: delete it to resume"
        ) as error:
            run(Noisy(), tmp_path)
        assert "\n" not in str(error.value)
        (newest / name).write_bytes(whole)
    newest.rename(tmp_path / "away")
    torch.testing.assert_close(run(Noisy(), tmp_path)[0], expected, rtol=0, atol=0)


def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    with pytest.raises(KeyboardInterrupt):
        run(Noisy({6: kill}), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.dcp.FileSystemWriter, "write_data", full)
        with pytest.raises(UserError, match="00008 cannot be written .*No space left on device.*resume$") as error:
            run(Noisy(), tmp_path)
    assert "\n" not in str(error.value)
    assert saved_steps(tmp_path) == [4]


def test_a_checkpoint_does_not_execute_what_it_names(tmp_path):
    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    run(Noisy(), tmp_path)
    (tmp_path / "step-00000020/.metadata").write_bytes(pickle.dumps(Malice()))
    with pytest.raises(UserError, match="mkdir, which data does not need"):
        run(Noisy(), tmp_path)
    assert not (tmp_path / "executed").exists()


def test_the_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    torch.save({"settings": {}, "state": {}}, tmp_path / "state.pt")
    with pytest.raises(UserError, match="state.pt is the checkpoint of an earlier version: delete .* to start anew$"):
        run(Noisy(), tmp_path)


def test_a_weight_without_gradient_has_no_optimizer_state_after_resuming_either(tmp_path):
    def idle(at=None):
        training = Noisy(at)
        training.modules["line"].register_parameter("idle", torch.nn.Parameter(torch.ones(3, 1)))
        training.optimizers["line"].add_param_group({"params": [training.modules["line"].idle]})
        return training

    with pytest.raises(KeyboardInterrupt):
        run(idle({6: kill}), tmp_path)
    resumed = idle()
    run(resumed, tmp_path)
    states = resumed.optimizers["line"].state
    assert set(states) == {resumed.modules["line"].weight, resumed.modules["line"].bias}
    assert all(set(state) == {"step", "exp_avg", "exp_avg_sq"} and state["step"] == 20 for state in states.values())


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (7, 7), (3, 8)])
def test_an_epoch_visits_each_example_once(size, batch):
    drawn = torch.cat([batch_indices(step, batch, size, seed=5) for step in range(4 * size)]).tolist()
    epochs = [drawn[i : i + size] for i in range(0, len(drawn), size)]
    assert all(Counter(epoch) == Counter(range(size)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1  # in a new order
    assert batch_indices(3, batch, size, seed=5).tolist() == drawn[3 * batch : 4 * batch]
    with pytest.raises(ValueError, match="no examples"):
        batch_indices(0, batch, 0, seed=5)


def test_no_two_seeds_share_an_order():
    epochs = [tuple(batch_indices(epoch, 20, 20, seed).tolist()) for seed in range(5) for epoch in range(5)]
    assert len(set(epochs)) == 25


def test_seeds_are_mixed_without_collision():
    assert len({mix(seed, step) for seed in range(50) for step in range(200)}) == 10_000
    assert mix(1, 2) != mix(2, 1)


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
