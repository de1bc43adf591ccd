"""Adversarial Diffusion Distillation: closed forms of each term, and G's gradient computed again."""

import math

import pytest
import torch
from methods.made import gradients, training

from diffusion2gan.methods.add import feature_r1, hinge_loss


def test_the_distillation_term_alone_leads_to_the_mean():
    """For x ~ N(m, s²) the teacher's estimate of x̂ with noise is, on average, x̂ - (σ² / S²) (x̂ - m)."""
    m, s, alpha = 0.7, 0.4, 0.6
    variance = 1 - alpha**2
    total = alpha**2 * s**2 + variance
    x, noise = torch.tensor(2.0, dtype=torch.float64), torch.randn(400_000, dtype=torch.float64)
    noisy = alpha * x + math.sqrt(variance) * noise
    estimated = m + alpha * s**2 / total * (noisy - alpha * m)
    gradient = 2 * (x - estimated).mean()
    assert gradient.item() == pytest.approx(2 * variance / total * (2.0 - m), abs=0.01)


def test_the_hinge_does_not_move_logits_beyond_one():
    real, fake = (torch.tensor(values, requires_grad=True) for values in ([0.5, 1.5], [-1.5, 0.25]))
    loss = hinge_loss([real.view(2, 1)], [fake.view(2, 1)])
    assert loss.item() == pytest.approx((0.5 + 0) / 2 + (0 + 1.25) / 2)
    loss.backward()
    assert real.grad.tolist() == [-0.5, 0.0] and fake.grad.tolist() == [0.0, 0.5]


def test_r1_is_half_the_squared_gradient_of_the_features():
    """For logits a · tap² / 2 the gradient is a · tap; for two taps the squares add up."""
    a, taps = torch.tensor(3.0, requires_grad=True), [torch.randn(4, 5, 2, 2, requires_grad=True) for _ in range(2)]
    penalty = feature_r1([a * tap.square().sum(1, keepdim=True) / 2 for tap in taps], taps)
    expected = sum(9 * tap.square().sum() for tap in taps) / 2 / 4
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    torch.testing.assert_close(a.grad, 2 * expected.detach() / 3)


def test_the_gradient_of_g_is_that_of_equation_4(small_teacher_folder, monkeypatch):
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)
    made = training("add", small_teacher_folder, guidance=2.5, lambda_gan=0.6, lambda_distillation=0.7)
    teacher, (batch,) = made.teacher, made.batches(0)
    text, empty = batch.conditions["text_embeddings"], teacher.encode_text([""] * 4)["text_embeddings"]
    seen = {}
    forward = made.modules["student"].forward
    estimate = made.denoiser.forward

    def student(noisy, *, timesteps, **conditions):
        seen.update(noisy=noisy, timesteps=timesteps)
        return forward(noisy, timesteps=timesteps, **conditions)

    def denoiser(noisy, *, timesteps, **conditions):
        seen.update(renoised=noisy[:4], t=timesteps[:4])
        return estimate(noisy, timesteps=timesteps, **conditions)

    monkeypatch.setattr(made.modules["student"], "forward", student)
    monkeypatch.setattr(made.denoiser, "forward", denoiser)
    made.optimizers["discriminator"].param_groups[0].update(lr=0.0, weight_decay=0.0)  # so that G sees the same D
    weights = [weight.clone() for weight in made.student.parameters()]
    kept = gradients(made, "student")
    numbers = made.step(0)
    with torch.no_grad():
        for weight, before in zip(made.student.parameters(), weights, strict=True):
            weight.copy_(before)
    monkeypatch.undo()

    x = made.student(seen["noisy"], text, seen["timesteps"])
    alpha = teacher.scheduler.alphas_cumprod[seen["t"]].double().sqrt().view(-1, 1, 1, 1)
    noise = (seen["renoised"] - alpha * x.detach()) / (1 - alpha**2).sqrt()
    assert abs(noise.mean()) < 0.06 and abs(noise.std() - 1) < 0.06
    with torch.no_grad():
        given, without = (
            alpha * seen["renoised"] - (1 - alpha**2).sqrt() * teacher.unet(seen["renoised"], seen["t"], each).sample
            for each in (text, empty)
        )
    estimated = without + 2.5 * (given - without)
    distilled = (alpha * (x - estimated).square()).mean()
    taps = [tap / tap.norm(dim=1, keepdim=True).clamp(min=1e-12) for tap in made.features.features(x)]
    taps = [tap * math.sqrt(tap.shape[1]) for tap in taps]
    generated = -sum(logits.mean() for logits in made.discriminator(taps, text))
    loss = 0.6 * generated + 0.7 * distilled
    assert numbers["loss"] == pytest.approx(loss.item()) and numbers["gan_loss"] == pytest.approx(generated.item())
    expected = torch.autograd.grad(loss, list(made.student.parameters()))
    for gradient, other in zip(kept, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-8 * other.abs().max().item() + 1e-14)


def test_the_features_and_the_teacher_stay_and_the_text_matters(small_teacher_folder):
    made = training("add", small_teacher_folder)
    before = [weight.clone() for weight in made.features.parameters()]
    made.step(0)
    assert all(torch.equal(weight, old) for weight, old in zip(made.features.parameters(), before, strict=True))
    (batch,) = made.batches(0)
    text, taps = batch.conditions["text_embeddings"], made.taps(batch.x)
    logits, others = made.discriminator(taps, text), made.discriminator(taps, text.roll(1, 0))
    assert not any(torch.allclose(one, other) for one, other in zip(logits, others, strict=True))
