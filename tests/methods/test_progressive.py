"""Progressive distillation: closed forms, the solver of diffusers, and how plain diffusers samples the student."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from methods.made import training

from diffusion2gan.methods.denoising import NoiseLevels, ddim_step
from diffusion2gan.methods.progressive import progressive_target
from diffusion2gan.teacher import Teacher


def levels(*alphas):
    """ᾱ (1, 1, 1, 1) of each α."""
    return [torch.tensor(alpha**2, dtype=torch.float64).view(1, 1, 1, 1) for alpha in alphas]


@pytest.mark.parametrize("last", [0.9, 1.0])
def test_one_step_with_the_target_ends_where_two_steps_end(last):
    """For any estimates x̂."""
    first, middle, end = levels(0.3, 0.6, last)
    noisy, one, two = torch.randn(3, 5, 4, 3, 3, dtype=torch.float64)
    solved = ddim_step(ddim_step(noisy, one, first, middle), two, middle, end)
    target = progressive_target(noisy, solved, first, end)
    torch.testing.assert_close(ddim_step(noisy, target, first, end), solved)
    if last == 1:
        torch.testing.assert_close(target, two)


def test_the_target_of_a_gaussian():
    """For x ~ N(m, s²) a DDIM step from t to u multiplies xₜ - αₜ m by k(t, u) = (αᵤ αₜ s² + σᵤ σₜ) / Sₜ²."""
    m, s, alphas = 0.7, 0.4, (0.3, 0.6, 0.9)
    first, middle, end = levels(*alphas)
    noisy = torch.randn(5, 4, 3, 3, dtype=torch.float64)

    def total(alpha):
        return alpha**2 * s**2 + 1 - alpha**2

    def best(x, alpha):
        return m + alpha * s**2 / total(alpha) * (x - alpha * m)

    def k(t, u):
        return (u * t * s**2 + math.sqrt((1 - u**2) * (1 - t**2))) / total(t)

    halfway = ddim_step(noisy, best(noisy, 0.3), first, middle)
    target = progressive_target(noisy, ddim_step(halfway, best(halfway, 0.6), middle, end), first, end)
    ratio = math.sqrt((1 - 0.9**2) / (1 - 0.3**2))
    slope = (k(0.3, 0.6) * k(0.6, 0.9) - ratio) / (0.9 - 0.3 * ratio)
    torch.testing.assert_close(target - m, slope * (noisy - 0.3 * m))


def test_the_target_is_that_of_diffusers_solver(small_teacher_folder):
    """Two guided steps of a sampler with twice the student's steps, from each of its levels."""
    made = training("progressive", small_teacher_folder, steps=2, guidance=2.5)
    teacher, (batch,) = made.teacher, made.batches(0)
    settings = {"timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True}
    scheduler = DDIMScheduler.from_config(teacher.scheduler.config, **settings)
    scheduler.set_timesteps(4)
    empty = teacher.encode_text([""] * 4)["text_embeddings"]
    for level in (0, 2):
        x = batch.z.double()
        for t in scheduler.timesteps[level : level + 2]:
            given, without = (teacher.unet(x, t, text).sample for text in (batch.conditions["text_embeddings"], empty))
            solved = scheduler.step(without + 2.5 * (given - without), t, x)
            x = solved.prev_sample
        chosen = torch.full((4,), level)
        target = made.target(batch, batch.z.double(), chosen)
        first, end = (made.levels.alpha_bar(each, x) for each in (chosen, chosen + 2))
        torch.testing.assert_close(ddim_step(batch.z.double(), target, first, end), x, rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_larger_of_the_errors_of_x_and_of_the_noise(small_teacher_folder):
    made = training("progressive", small_teacher_folder, guidance=3)
    (batch,) = made.batches(0)
    seen = {}
    target = made.target

    def remember(*given):
        seen.update(noisy=given[1], levels=given[2], target=target(*given))
        return seen["target"]

    made.target = remember
    loss = made.loss_of(batch)
    noisy, wanted = seen["noisy"], seen["target"]
    assert set(seen["levels"].tolist()) <= {0, 2, 4, 6}
    estimated = made.student(noisy, timesteps=made.levels.timesteps[seen["levels"]], **batch.conditions)
    alpha_bar = made.levels.alphas_cumprod[seen["levels"]].double().view(-1, 1, 1, 1)
    errors = []
    for x in (estimated, wanted):
        errors.append((x, (noisy - alpha_bar.sqrt() * x) / (1 - alpha_bar).sqrt()))
    of_x, of_noise = ((one - other).square().mean(dim=(1, 2, 3)) for one, other in zip(*errors, strict=True))
    torch.testing.assert_close(loss, torch.maximum(of_x, of_noise).mean(), rtol=1e-6, atol=0)


def test_a_network_learns_nothing_from_its_own_estimate(small_teacher_folder):
    """Without guidance and with one substep the target is what the network before, the student itself, says."""
    made = training("progressive", small_teacher_folder, substeps=1, guidance=2)
    made.settings = made.settings.model_copy(update={"guidance": 1.0})  # the settings refuse what changes nothing
    assert made.step(0)["loss"] < 1e-12
    assert training("progressive", small_teacher_folder, substeps=1, guidance=2).step(0)["loss"] > 1e-6
    assert training("progressive", small_teacher_folder).step(0)["loss"] > 1e-6


def test_the_student_samples_as_plain_diffusers_does(small_teacher_folder, tmp_path):
    made = training("progressive", small_teacher_folder, steps=4)
    made.step(0)
    (batch,) = made.batches(0)
    made.modules["student"].save(tmp_path / "student", small_teacher_folder)
    saved = Teacher(str(tmp_path / "student"), "cpu", torch.float64)
    expected = saved.solve(batch.z.double(), batch.captions, 4, 0, "student")
    with torch.no_grad():
        torch.testing.assert_close(made.generate(batch), expected, rtol=1e-4, atol=1e-4)


def test_a_student_s_levels_are_every_second_of_the_network_before(small_teacher_folder):
    scheduler = Teacher(small_teacher_folder).scheduler
    for steps in (8, 4, 2, 1):
        before, now = (NoiseLevels(scheduler, count).timesteps for count in (2 * steps, steps))
        assert before[::2].tolist() == now.tolist()
    assert NoiseLevels(scheduler, 4).timesteps.tolist() == [999, 749, 499, 249]
    assert NoiseLevels(scheduler, 4).alphas_cumprod[-1] == 1
