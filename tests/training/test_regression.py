"""A step of regression against its formula: the gradient of the whole batch, from zero, clipped."""

import copy
import resource
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from built import InMemory

from diffusion2gan.evaluations import Evaluations
from diffusion2gan.generator import Generator
from diffusion2gan.losses import BatchPart
from diffusion2gan.seeds import batch_indices, mix
from diffusion2gan.settings import Fitting, RegressionSettings
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.regression import RegressionTraining

STEP, SEED = 3, 7


def regression(teacher, loss, accumulation, **settings):
    torch.manual_seed(0)
    given = {"loss": "mse", "iterations": 9, "batch_size": 4, "learning_rate": 1e-3, "seed": SEED} | settings
    return RegressionTraining(
        Generator.from_teacher(teacher.path), teacher, InMemory(), loss, RegressionSettings(**given),
        Fitting(accumulation=accumulation),
    )  # fmt: skip


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("strength", [1e-3, 1e3], ids=["small", "clipped"])
def test_a_step_follows_the_gradient_of_the_whole_batch(teacher, accumulation, strength):
    parts, stepped = [], []

    def loss(x0, x1, part):
        assert x0.requires_grad and not x1.requires_grad  # G(z, c), then its target
        parts.append(part)
        return strength * (x0 - x1).square().mean()

    training = regression(teacher, loss, accumulation)
    before, (optimizer,) = copy.deepcopy(training.student), training.optimizers.values()
    for weight in training.student.parameters():
        weight.grad = torch.full_like(weight, 5.0)  # of an earlier step
    optimizer.register_step_pre_hook(
        lambda *_: stepped.append([weight.grad.clone() for weight in training.student.parameters()])
    )
    numbers = training.step(STEP)

    pairs = InMemory().batch(batch_indices(STEP, 4, 8, SEED))
    whole = strength * (before(pairs.z, **teacher.encode_text(pairs.captions)) - pairs.x).square().mean()
    gradients = torch.autograd.grad(whole, list(before.parameters()))
    norm = torch.stack([each.norm() for each in gradients]).norm()
    assert (norm > 1) == (strength > 1)
    wanted = [each / max(norm, 1) for each in gradients]
    (ours,) = stepped  # the optimizer steps once
    for got, gradient in zip(ours, wanted, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-3, atol=1e-5 * float(norm.clamp(max=1)))
    assert numbers["loss"] == pytest.approx(whole.item(), rel=1e-4)
    assert numbers["student_gradient_norm"] == pytest.approx(norm.item(), rel=1e-3)  # before it is clipped
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), training.student.parameters(), strict=True))
    rows = [slice(0, 4)] if accumulation == 1 else [slice(0, 2), slice(2, 4)]
    assert parts == [BatchPart(each, 4, mix(SEED, STEP, 1)) for each in rows]


def test_errors_on_own_and_on_held_out_pairs_are_divided_by_the_variance_of_the_latents(teacher):
    training = regression(teacher, None, 2)
    assert training.errors() == {}
    training.pairs.held_out = range(5, 8)
    found = training.errors()
    for name, indices in {"train_error": [0, 1, 2], "held_out_error": [5, 6, 7]}.items():
        pairs = InMemory().batch(torch.tensor(indices))
        with torch.no_grad():
            generated = training.student(pairs.z, **teacher.encode_text(pairs.captions))
        wrong = sum((generated[i] - pairs.x[i]).square().sum() for i in range(3))
        spread = sum((pairs.x[i] - pairs.x.mean(0)).square().sum() for i in range(3))
        assert found[name] == pytest.approx((wrong / spread).item(), rel=1e-5)
        variance = sum((generated[i] - generated.mean(0)).square().sum() for i in range(3)) / spread
    assert found["variance"] == pytest.approx(variance.item(), rel=1e-5)  # on the held-out pairs
    assert found["train_error"] != found["held_out_error"]


def test_a_step_is_timed_and_its_evaluations_are_counted(teacher, monkeypatch):
    training = regression(teacher, lambda x0, x1, part: (x0 - x1).square().mean(), 2)
    clock = iter([10.0, 10.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    numbers = training.step(STEP)
    assert numbers["images_per_second"] == 8 and numbers["generator_evaluations"] == 16
    assert set(numbers) == {"loss", "student_gradient_norm", "images_per_second", "generator_evaluations"}
    assert training.evaluations == Evaluations(student_forward=4, student_backward=4)


def test_generator_and_loss_run_in_half_precision_if_asked(teacher):
    seen = []

    def loss(x0, x1, part):
        seen.append((x0.dtype, torch.is_autocast_enabled("cpu")))
        return (x0 - x1).square().mean()

    for autocast in (False, True):
        regression(teacher, loss, 1, autocast=autocast).step(0)
    assert [enabled for _, enabled in seen] == [False, True]


def test_the_student_s_optimizer_is_adamw_with_its_usual_settings(teacher):
    (optimizer,) = regression(teacher, None, 1).optimizers.values()
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.AdamW
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 0.01)


def test_memory_is_counted_in_gibibytes(monkeypatch):
    used = SimpleNamespace(ru_maxrss=3 * 2**20)  # Linux counts in KiB
    monkeypatch.setattr(distillation.resource, "getrusage", lambda who: {resource.RUSAGE_SELF: used}[who])
    assert distillation._peak_memory(torch.device("cpu")) == 3.0
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 * 2**30)
    assert distillation._peak_memory(torch.device("cuda")) == 5.0


def test_gradients_are_averaged_over_the_processes_after_the_last_micro_batch(teacher, monkeypatch):
    training, asked = regression(teacher, lambda x0, x1, part: (x0 - x1).square().mean(), 4), []
    monkeypatch.setattr(distributed, "no_sync", lambda *given: asked.append(given) or nullcontext())
    training.step(0)
    assert asked == [(training.student, keep) for keep in (True, True, True, False)]


@pytest.mark.parametrize("autocast", [False, True])
def test_autocast_is_to_bfloat16_whatever_the_default_of_a_device(teacher, monkeypatch, autocast):
    """On a GPU the default would be float16."""
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda *given, **how: asked.append((given, how)) or nullcontext())
    regression(teacher, lambda x0, x1, part: (x0 - x1).square().mean(), 1, autocast=autocast).step(0)
    assert asked == [(("cpu", torch.bfloat16), {"enabled": autocast})] * 2  # for the loss, and for G in it
