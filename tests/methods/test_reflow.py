"""InstaFlow: closed forms of straight paths, the teacher's ODE before training, and each gradient computed again."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from methods.made import gradients, loaded, training

from diffusion2gan.generator import Generator
from diffusion2gan.methods import reflow
from diffusion2gan.methods.denoising import random_times
from diffusion2gan.methods.reflow import StraightPaths

M, S = 0.7, 0.4
TIMESTEPS = torch.tensor([999, 800, 500, 200, 0])


@pytest.fixture
def paths():
    return StraightPaths(DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012))


def best(paths, of_point):
    """A denoiser whose estimate x̂ is a function of Xₜ and t."""

    def denoiser(noisy, timesteps):
        scale, times = (each[timesteps].view(-1, 1, 1, 1) for each in (paths.scale, paths.times))
        return of_point(noisy / scale, times)

    return denoiser


def normal(count):
    return torch.randn(count, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_time_runs_from_noise_to_data(paths):
    assert paths.times[-1] == 0 and paths.scale[-1] == 1  # z itself
    assert (paths.times.diff() < 0).all() and 0.95 < paths.times[0] < 1
    assert paths.nearest(torch.tensor([0.0, 1.0])).tolist() == [999, 0]
    assert (paths.nearest(paths.times) == torch.arange(1000)).all()


def test_a_schedule_that_ends_in_noise_needs_no_shift():
    """t / (1 - t) = α / σ, and the latent is Xₜ / √(t² + (1 - t)²)."""
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True)
    scheduler.alphas_cumprod[-1] = 0  # diffusers leaves 2e-8
    paths, alpha_bar = StraightPaths(scheduler), scheduler.alphas_cumprod.double()
    t = paths.times
    torch.testing.assert_close(t * (1 - alpha_bar).sqrt(), (1 - t) * alpha_bar.sqrt())
    torch.testing.assert_close(paths.scale, 1 / (t**2 + (1 - t) ** 2).sqrt())


def test_paths_that_do_not_cross_are_straight(paths):
    """For X₁ = m + s z, v = m + (s - 1) z with z = (Xₜ - t m) / (1 - t + t s), and one step of Euler is exact."""
    z = normal(len(TIMESTEPS))
    x = M + S * z
    denoiser = best(paths, lambda point, t: M + S * (point - t * M) / (1 - t + t * S))
    point = paths.between(z, x, TIMESTEPS)
    torch.testing.assert_close(paths.velocity(denoiser, point, TIMESTEPS, {}), M + (S - 1) * z)
    for steps in (1, 2, 25):
        torch.testing.assert_close(paths.solve(denoiser, z, steps, {}), x)
    reversed_ = paths.between(x, z, TIMESTEPS)
    assert (paths.velocity(denoiser, reversed_, TIMESTEPS, {}) - (x - z)).square().mean() > 0.1


def test_paths_that_cross_are_not(paths):
    """For independent z and x ~ N(m, s²) the slope of v is (t s² - (1 - t)) / (t² s² + (1 - t)²); one step gives m."""

    def mean(point, t):
        return M + t * S**2 / (t**2 * S**2 + (1 - t) ** 2) * (point - t * M)

    denoiser = best(paths, mean)
    for timestep in TIMESTEPS:
        t = paths.times[timestep]
        slope = (t * S**2 - (1 - t)) / (t**2 * S**2 + (1 - t) ** 2)
        z, x = torch.randn(2, 200_000, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        point = paths.between(z, M + S * x, timestep.expand(len(z)))
        velocity = paths.velocity(denoiser, point, timestep.expand(len(z)), {})
        torch.testing.assert_close(velocity - M, slope * (point - t * M))
        regressed = ((M + S * x - z - M) * (point - t * M)).mean() / (point - t * M).square().mean()
        assert regressed.item() == pytest.approx(slope.item(), abs=0.01)
    torch.testing.assert_close(paths.solve(denoiser, normal(4), 1, {}), torch.full((4, 4, 3, 3), M).double())
    assert (paths.solve(denoiser, normal(4), 500, {}) - M).std().item() == pytest.approx(S, abs=0.03)


def ddim(teacher, z, text, steps):
    """The solution of diffusers with trailing steps, without guidance."""
    settings = {"timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True}
    scheduler = DDIMScheduler.from_config(teacher.scheduler.config, **settings)
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(teacher.unet(z, t, text).sample, t, z).prev_sample
    return z, scheduler.timesteps


def test_before_training_the_flow_is_the_teacher_s_ode(small_teacher_folder, monkeypatch):
    """At the same timesteps a step of Euler is one of DDIM, and with many steps both find one solution."""
    teacher = loaded(small_teacher_folder)
    denoiser = Generator(teacher.unet, teacher.scheduler)
    paths, conditions = StraightPaths(denoiser.scheduler), teacher.encode_text(["a fox", "a tree"])
    z, text = torch.randn(2, *teacher.latent_shape, dtype=torch.float64), conditions["text_embeddings"]
    fine, _ = ddim(teacher, z, text, 250)
    with torch.no_grad():
        errors = [(paths.solve(denoiser, z, steps, conditions) - fine).square().mean().sqrt() for steps in (2, 10, 250)]
        torch.testing.assert_close(paths.solve(denoiser, z, 1, conditions), denoiser(z, **conditions))
        assert errors[0] > 3 * errors[1] and errors[1] > 3 * errors[2]
        for steps in (1, 4):  # diffusers' timesteps of other numbers are no equal steps
            expected, timesteps = ddim(teacher, z, text, steps)
            monkeypatch.setattr(StraightPaths, "nearest", lambda *_, chosen=timesteps: chosen)
            torch.testing.assert_close(paths.solve(denoiser, z, steps, conditions), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_reflow_is_that_of_its_velocity(small_teacher_folder, monkeypatch):
    """With v of the U-Net: x̂ = α x - σ v, ε̂ = σ x + α v, and the noise at the start of the path, α_T x̂ + σ_T ε̂."""
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)
    made = training("reflow", small_teacher_folder)
    (batch,) = made.batches(0)
    drawn = random_times(batch, reflow.TIME)
    kept, seen, unet = gradients(made, "student"), {}, made.student.unet
    hook = unet.register_forward_pre_hook(lambda _, args: seen.update(noisy=args[0], timesteps=args[1]))
    weights = [weight.clone() for weight in made.student.parameters()]
    numbers = made.step(0)
    hook.remove()
    with torch.no_grad():
        for weight, before in zip(made.student.parameters(), weights, strict=True):
            weight.copy_(before)

    alpha_bar = made.teacher.scheduler.alphas_cumprod.double()
    alpha, sigma = (each[seen["timesteps"]].view(-1, 1, 1, 1) for each in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
    alpha_end, sigma_end = alpha_bar[-1].sqrt(), (1 - alpha_bar[-1]).sqrt()
    signal, noise = alpha - sigma * alpha_end / sigma_end, sigma / sigma_end  # the latent is `signal` x + `noise` z
    torch.testing.assert_close(seen["noisy"], signal * batch.x + noise * batch.z)
    assert ((signal / (signal + noise)).flatten() - drawn).abs().max() < 0.04  # the widest gap is at data
    v = unet(seen["noisy"], seen["timesteps"], batch.conditions["text_embeddings"]).sample
    estimated, epsilon = alpha * seen["noisy"] - sigma * v, sigma * seen["noisy"] + alpha * v
    velocity = estimated - (alpha_end * estimated + sigma_end * epsilon)
    loss = (velocity - (batch.x - batch.z)).square().mean()
    assert numbers["loss"] == pytest.approx(loss.item(), rel=1e-5)
    expected = torch.autograd.grad(loss, list(made.student.parameters()))
    for gradient, other in zip(kept, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-6 * other.abs().max().item() + 1e-14)


def test_the_times_are_uniform_and_others_in_each_step(small_teacher_folder):
    made = training("reflow", small_teacher_folder, batch_size=8, iterations=200)
    drawn = torch.stack([random_times(made.batches(step)[0], reflow.TIME) for step in range(200)])
    assert len(drawn.unique()) == drawn.numel() and drawn.min() >= 0 and drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.03 and abs(drawn.var() - 1 / 12) < 0.01


def test_instaflow_learns_the_end_of_the_flow_s_solution(small_teacher_folder, monkeypatch):
    """The student starts as one step of the flow, which stays."""
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)
    made = training("instaflow", small_teacher_folder)
    made.settings = made.settings.model_copy(update={"flow_steps": 1})  # a configuration with one is refused
    assert made.step(0)["loss"] < 1e-12
    made = training("instaflow", small_teacher_folder)
    made.step(0)  # student and flow are now two networks
    (batch,) = made.batches(1)
    with torch.no_grad():
        solved = batch.z
        for step in range(3):
            timestep = (made.paths.times - step / 3).abs().argmin().expand(4)
            solved = solved + made.paths.velocity(made.flow, solved, timestep, batch.conditions) / 3
    loss = (made.student(batch.z, **batch.conditions) - solved).square().mean()
    torch.testing.assert_close(made.loss_of(batch), loss, rtol=1e-2, atol=0)  # times are rounded to a timestep's
    loss = made.loss_of(batch)
    expected = torch.autograd.grad(loss, list(made.student.parameters()))
    kept = gradients(made, "student")
    numbers = made.step(1)
    assert numbers["loss"] == pytest.approx(loss.item())
    for gradient, other in zip(kept, expected, strict=True):
        torch.testing.assert_close(gradient, other)
