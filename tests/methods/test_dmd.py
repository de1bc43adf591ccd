"""Distribution Matching Distillation: closed forms for Gaussians, and each gradient of a step computed again."""

import math

import pytest
import torch
from methods.made import gradients, training
from training.small_gan import squared

from diffusion2gan.methods.dmd import FAKE, MATCHING, denoising_loss, matching_direction


@pytest.fixture
def unclipped(monkeypatch):
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)


def test_two_gaussians_with_the_same_deviation_differ_by_their_means():
    """x̂_fake - x̂_real = (σ² / S²) (b - m) with S² = α² s² + σ², for any noisy x."""
    m, b, s, alpha = 0.7, 0.2, 0.4, 0.6
    sigma = math.sqrt(1 - alpha**2)
    total = alpha**2 * s**2 + sigma**2
    noisy, x = torch.randn(2, 5, 4, 3, 3, dtype=torch.float64)
    real, fake = (mean + alpha * s**2 / total * (noisy - alpha * mean) for mean in (m, b))
    size = (x - real).abs().mean(dim=(1, 2, 3)).view(-1, 1, 1, 1)
    expected = torch.full_like(x, sigma**2 / total * (b - m))
    torch.testing.assert_close(matching_direction(x, real, fake) * size, expected)


def test_the_student_of_exact_denoisers_finds_the_teacher_s_mean_and_deviation():
    """For G(z) = a z + b, steps against the direction end at (a, b) = (s, m)."""
    m, s, generator = 0.7, 0.4, torch.Generator().manual_seed(0)
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.2, -0.5))
    for _ in range(400):
        z, noise = torch.randn(2, 2000, 1, 1, 1, generator=generator, dtype=torch.float64)
        alpha = 0.1 + 0.8 * torch.rand(2000, 1, 1, 1, generator=generator, dtype=torch.float64)
        x, variance = a * z + b, 1 - alpha**2
        noisy = alpha * x.detach() + variance.sqrt() * noise
        real, fake = (
            mean + alpha * width**2 / (alpha**2 * width**2 + variance) * (noisy - alpha * mean)
            for mean, width in ((m, s), (b.detach(), a.detach()))
        )
        direction = fake - real  # not divided: a sample of one element has no mean size
        by_a, by_b = torch.autograd.grad(x, (a, b), direction / len(x))
        with torch.no_grad():
            a -= 0.3 * by_a
            b -= 0.3 * by_b
    assert (abs(a).item(), b.item()) == (pytest.approx(s, abs=0.02), pytest.approx(m, abs=0.02))


def test_the_fake_denoiser_s_loss_is_the_error_of_the_noise():
    x, noise, estimated = torch.randn(3, 5, 4, 3, 3, dtype=torch.float64)
    alpha_bar = torch.rand(5, 1, 1, 1, dtype=torch.float64)
    noisy = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
    predicted = (noisy - alpha_bar.sqrt() * estimated) / (1 - alpha_bar).sqrt()
    expected = (predicted - noise).square().mean()
    torch.testing.assert_close(denoising_loss(estimated, x, alpha_bar), expected)


def test_the_first_direction_without_guidance_is_zero(small_teacher_folder):
    """The fake denoiser starts as the teacher."""
    made = training("dmd", small_teacher_folder, guidance=1)
    assert made.step(0)["matching_loss"] < 1e-12
    assert made.step(1)["matching_loss"] > 1e-6
    assert training("dmd", small_teacher_folder).step(0)["matching_loss"] > 1e-6  # guided


def test_the_gradient_of_g_is_the_direction_and_that_of_the_regression(small_teacher_folder, unclipped):
    made = training("dmd", small_teacher_folder, lambda_regression=0.5)
    made.step(0)  # the fake denoiser is now another network than the teacher
    student, fake, teacher = made.student, made.fake, made.teacher
    (batch,) = made.batches(1)
    noisy, timesteps = made.noised(batch, student(made.fresh_noise(batch), **batch.conditions), MATCHING, 0.02, 0.98)
    x = student(made.fresh_noise(batch), **batch.conditions)
    assert not torch.equal(made.fresh_noise(batch), batch.z)
    with torch.no_grad():
        estimates = {}
        for name, unet, text in (
            ("conditional", teacher.unet, batch.conditions["text_embeddings"]),
            ("unconditional", teacher.unet, teacher.encode_text([""] * 4)["text_embeddings"]),
            ("fake", fake.unet, batch.conditions["text_embeddings"]),
        ):
            alpha = teacher.scheduler.alphas_cumprod[timesteps].double().sqrt().view(-1, 1, 1, 1)
            v = unet(noisy, timesteps, text).sample
            estimates[name] = alpha * noisy - (1 - alpha**2).sqrt() * v
        real = 3 * estimates["conditional"] - 2 * estimates["unconditional"]
        direction = (estimates["fake"] - real) / (x - real).abs().flatten(1).mean(1).view(-1, 1, 1, 1)
    weights = list(student.parameters())
    matching = torch.autograd.grad(x, weights, direction / x.numel())
    regression = torch.autograd.grad(squared(student(batch.z, **batch.conditions), batch.x), weights)
    kept = gradients(made, "student")
    numbers = made.step(1)
    for gradient, one, other in zip(kept, matching, regression, strict=True):
        expected = one + 0.5 * other
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item() + 1e-14)
    assert numbers["loss"] == pytest.approx(numbers["matching_loss"] + 0.5 * numbers["regression_loss"])
    assert numbers["matching_loss"] == pytest.approx(0.5 * direction.square().mean().item(), rel=1e-5)


def test_the_fake_denoiser_learns_the_latents_that_g_made(small_teacher_folder, unclipped):
    made = training("dmd", small_teacher_folder)
    (batch,) = made.batches(0)
    with torch.no_grad():
        x = made.student(made.fresh_noise(batch), **batch.conditions)
    noisy, timesteps = made.noised(batch, x, FAKE, 0.0, 1.0)
    alpha_bar = made.real.alpha_bar_at(timesteps)
    loss = denoising_loss(made.fake(noisy, timesteps=timesteps, **batch.conditions), x, alpha_bar)
    expected = torch.autograd.grad(loss, list(made.fake.parameters()))
    kept = gradients(made, "fake")
    assert made.step(0)["fake_loss"] == pytest.approx(loss.item(), rel=1e-6)
    for gradient, other in zip(kept, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-8 * other.abs().max().item() + 1e-14)


def test_without_regression_g_does_not_run_on_the_pairs(small_teacher_folder):
    passes, kept = [], []
    for x in (0.0, 1.0):
        made = training("dmd", small_teacher_folder, loss="none")
        made.pairs.x.fill_(x)
        made.modules["student"].register_forward_hook(lambda *_: passes.append(1))
        kept.append(gradients(made, "student"))
        numbers = made.step(0)
        assert numbers["loss"] == numbers["matching_loss"] and "regression_loss" not in numbers
    assert len(passes) == 2 and made.evaluations.student_forward == made.evaluations.student_backward == 4
    assert all(torch.equal(*each) for each in zip(*kept, strict=True))
