"""Consistency Distillation against its definition, and beside regression on an ODE whose solution is known."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.losses import BatchPart, regression_loss
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.pixel.consistency import ConsistencyTraining
from diffusion2gan.pixel.edm import SIGMA_MAX, SIGMA_MIN, noise_levels
from diffusion2gan.pixel.heun import heun_step
from diffusion2gan.pixel.model import PixelGenerator
from diffusion2gan.settings import ConsistencySettings, Fitting, LossSettings, RegressionSettings
from diffusion2gan.training import distributed
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.read_ahead import ReadAhead
from diffusion2gan.training.regression import RegressionTraining

MEAN, DEVIATION = 0.6, 0.3  # of the one-dimensional images


class Counting(nn.Module):
    """The exact D(x; σ) of normally distributed images; counts its evaluations."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def forward(self, x, sigma):
        self.asked += len(x)
        variance = (torch.as_tensor(sigma).to(x) ** 2).expand(len(x))[:, None, None, None]
        return (DEVIATION**2 * x + MEAN * variance) / (DEVIATION**2 + variance)


class Student(nn.Module):
    """A consistency function of two small layers: parameters a function of ln σ, linear in x."""

    config = SimpleNamespace(in_channels=1, sample_size=1)

    def __init__(self, boundary):
        super().__init__()
        self.boundary, self.asked = boundary, 0
        self.net = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, x, sigma):
        self.asked += len(x)
        sigma = torch.as_tensor(sigma).to(x).expand(len(x))[:, None]
        scale, shift = self.net(sigma.log() / 4).unbind(1)
        above = sigma[:, 0] - self.boundary
        skip, out = 0.25 / (above**2 + 0.25), above * 0.5 / (sigma[:, 0] ** 2 + 0.25).sqrt()
        inner = scale * x[:, 0, 0, 0] / (sigma[:, 0] ** 2 + 0.25).sqrt() + shift
        return (skip * x[:, 0, 0, 0] + out * inner)[:, None, None, None]


class Data:
    """Images of one pixel: the ODE's solutions for noise z, or independent samples."""

    captions = [""]

    def __init__(self, paired):
        self.z, drawn = torch.randn(2, 512, 1, 1, 1, generator=torch.Generator().manual_seed(0))
        self.x = solution(self.z) if paired else MEAN + DEVIATION * drawn

    def __len__(self):
        return len(self.z)

    def batch(self, indices):
        return Pairs(self.z[indices], [""] * len(indices), self.x[indices])


def solution(z):
    """The exact solution of the ODE from 80 z at σ = 80 to σ = 0."""
    return MEAN + (SIGMA_MAX * z - MEAN) * DEVIATION / math.sqrt(DEVIATION**2 + SIGMA_MAX**2)


def training_of(kind, fitting=None, loss=None, **changes):
    torch.manual_seed(0)
    teacher = SimpleNamespace(unet=Counting(), device=torch.device("cpu"), encode_text=lambda captions: {})
    student = PixelGenerator(Student(SIGMA_MIN if kind == "consistency" else 0.0))
    pairs, loss = Data(kind == "regression"), loss or regression_loss(LossSettings(loss="mse"))
    settings = {"loss": "mse", "iterations": 600, "batch_size": 64, "learning_rate": 1e-2} | changes
    if kind == "regression":
        return RegressionTraining(student, teacher, pairs, loss, RegressionSettings(**settings), fitting)
    return ConsistencyTraining(student, teacher, pairs, loss, ConsistencySettings(**settings), fitting)


@pytest.mark.parametrize("kind", ["regression", "consistency"])
def test_on_an_ode_of_known_solution_both_methods_recover_the_map(kind, tmp_path):
    training = training_of(kind)
    z = torch.linspace(-2, 2, 9).view(9, 1, 1, 1)

    def error():
        with torch.no_grad():
            return (training.modules["student"](z) - solution(z)).abs().max().item()

    assert error() > 0.5
    train(training, Schedule(600, decay="cosine"), tmp_path, {}, seed=0)
    # seventeen Heun steps of N = 18 are themselves some hundredths from the solution
    assert error() < (0.01 if kind == "regression" else 0.08)


def test_the_target_and_its_neighbour():
    training = training_of("consistency")
    with torch.no_grad():  # unlike the student, so that the test sees whose answer is the target
        for weight in training.target.parameters():
            weight.add_(0.1)
    batch = training.read(torch.arange(256), BatchPart(slice(0, 256), 256, 5))
    noisy, sigma, target = training.neighbours(batch)
    levels = noise_levels(18)
    numbers = (levels[None] - sigma[:, None]).abs().argmin(1)
    assert set(numbers.tolist()) == set(range(17))  # every interval is sampled, the lowest level never for σ'
    for i in (0, 7, 63):
        s, t = levels[numbers[i]].item(), levels[numbers[i] + 1].item()
        x = batch.x[i : i + 1].double() + s * batch.z[i : i + 1].double()
        torch.testing.assert_close(noisy[i : i + 1].double(), x, rtol=1e-5, atol=1e-5)
        slope = (x - training.teacher.unet(x, s)) / s
        euler = x + (t - s) * slope
        solved = x + (t - s) * (slope + (euler - training.teacher.unet(euler, t)) / t) / 2
        wanted = training.target.unet(solved.float(), t)
        torch.testing.assert_close(target[i : i + 1], wanted, rtol=1e-4, atol=1e-4)
        assert sigma[i].item() == pytest.approx(s)
    lowest = (numbers == 16).nonzero()[0, 0]  # there the target is the solution itself
    solved = heun_step(training.teacher.unet, noisy, sigma, levels[numbers + 1].float())
    assert torch.equal(target[lowest], solved[lowest])


def test_noise_and_levels_depend_on_the_step_s_seed_and_differ_between_images():
    training = training_of("consistency")

    def drawn(seed):
        batch = training.read(torch.arange(512), BatchPart(slice(0, 512), 512, seed))
        return batch.z.flatten(), training.neighbours(batch)[1]

    (z, sigma), (again, same), (other, another) = drawn(5), drawn(5), drawn(6)
    assert torch.equal(z, again) and torch.equal(sigma, same)
    assert len(z.unique()) == 512 and z.std().item() == pytest.approx(1, abs=0.1)
    assert not torch.isin(other, z).any() and (another != sigma).double().mean() > 0.8
    assert torch.stack([z, sigma.log()]).corrcoef()[0, 1].abs() < 0.15


def test_the_student_descends_towards_what_the_target_says():
    """The order of the arguments matters, because a perceptual loss has a gradient for its first one only."""
    seen = []

    def loss(x0, x1, part):
        seen.append((x0.requires_grad, x1.requires_grad, part.rows))
        return (x0 - x1).square().mean()

    training = training_of("consistency", loss=loss)
    training.step(0)
    assert seen == [(True, False, slice(0, 64))]
    assert isinstance(training.optimizers["student"], torch.optim.RAdam)


def test_the_optimizer_is_the_official_radam():
    """optax's scale_by_radam with β = (0.9, 0.999), a threshold of 5 and no decay, in numbers (Liu et al. 2020)."""
    training = training_of("consistency", learning_rate=0.5)
    optimizer, (weight, *others) = training.optimizers["student"], training.modules["student"].parameters()
    w, m, v, rho_inf = weight[0, 0].item(), 0.0, 0.0, 2 / (1 - 0.999) - 1
    for step, gradient in enumerate([3.0, -1.0, 2.0, 0.5, 4.0, -2.0, 1.0, 0.25], 1):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        rho = rho_inf - 2 * step * 0.999**step / (1 - 0.999**step)
        update = m / (1 - 0.9**step)
        if rho >= 5:
            r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            update *= r / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
        w -= 0.5 * update
        assert weight[0, 0].item() == pytest.approx(w, rel=1e-4)
    assert rho > 5 and all(other.grad is None for other in others)


def test_gradients_are_not_clipped():
    """A loss a thousand times as large has gradients a thousand times as large when the optimizer sees them."""
    norms = []
    for factor in (1, 1000):
        training = training_of("consistency", loss=lambda x0, x1, part, f=factor: f * (x0 - x1).square().mean())
        training.step(0)
        gradients = [weight.grad.flatten() for weight in training.modules["student"].parameters()]
        norms.append(torch.cat(gradients).norm().item())
    assert norms[1] > 10 and norms[1] == pytest.approx(1000 * norms[0], rel=1e-3)


def test_half_of_the_images_are_mirrored_by_their_position():
    class Ramps(Data):
        """Images of 2 × 2 that are brighter on the right."""

        def batch(self, indices):
            return Pairs(torch.empty(len(indices), 0), [""] * len(indices), self.images[indices])

    def read(rows=slice(0, 256), seed=5, **settings):
        training = training_of("consistency", **settings)
        training.pairs = Ramps(False)
        training.pairs.images = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).expand(512, 1, 2, 2)
        training.reader = ReadAhead(training.pairs)
        return training.read(torch.arange(256)[rows], BatchPart(rows, 256, seed))

    plain, mirrored = read(), read(random_flip=True)
    assert torch.equal(plain.z, mirrored.z) and (plain.x[:, 0, 0, 0] == 0).all()
    flipped = mirrored.x[:, 0, 0, 0] == 1
    assert torch.equal(mirrored.x[flipped], plain.x[flipped].flip(3))
    assert torch.equal(mirrored.x[~flipped], plain.x[~flipped]) and 96 < flipped.sum() < 160
    rows = slice(64, 128)
    assert torch.equal(read(rows, random_flip=True).x, mirrored.x[rows])  # another process
    assert not torch.equal(read(seed=6, random_flip=True).x, mirrored.x)  # another step


def test_the_target_follows_with_its_decay():
    training = training_of("consistency", target_decay=0.9)
    before = [weight.clone() for weight in training.target.parameters()]
    training.step(0)
    for old, new, student in zip(
        before, training.target.parameters(), training.modules["student"].parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * student)
        assert not new.requires_grad
    same = training_of("consistency")
    same.step(0)
    assert all(
        torch.equal(a, b) for a, b in zip(same.target.parameters(), same.modules["student"].parameters(), strict=True)
    )


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("kind", ["regression", "consistency"])
def test_evaluations_are_counted_as_they_happen(kind, accumulation):
    training = training_of(kind, fitting=Fitting(accumulation=accumulation))
    backward = []
    training.modules["student"].register_forward_hook(
        lambda module, given, x: x.register_hook(lambda gradient: backward.append(len(gradient))) and None
    )
    for step in range(3):
        training.step(step)
    spent = training.evaluations.times(3)
    assert training.modules["student"].unet.asked == spent.student_forward == 3 * 64
    assert sum(backward) == spent.student_backward
    assert training.teacher.unet.asked == spent.teacher_forward
    if kind == "consistency":
        assert training.target.unet.asked == spent.target_forward == 3 * 64


def test_micro_batches_make_the_same_step():
    whole, parts = training_of("consistency"), training_of("consistency", fitting=Fitting(accumulation=4))
    for training in (whole, parts):
        torch.manual_seed(0)
        training.step(0)
    for a, b in zip(*(t.modules["student"].parameters() for t in (whole, parts)), strict=True):
        torch.testing.assert_close(a, b)


def test_it_is_not_sharded():
    with pytest.raises(UserError, match="^Consistency Distillation keeps whole networks: leave out --shard$"):
        training_of("consistency", fitting=Fitting(shard=True))


def test_gradients_are_averaged_over_the_processes_after_the_last_micro_batch(monkeypatch):
    training, asked = training_of("consistency", fitting=Fitting(accumulation=4)), []
    monkeypatch.setattr(distributed, "no_sync", lambda *given: asked.append(given) or nullcontext())
    training.step(0)
    assert asked == [(training.student, keep) for keep in (True, True, True, False)]
