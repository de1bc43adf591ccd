"""DMD2: the head on the fake denoiser, its several updates in a step, and each gradient computed again."""

import math

import pytest
import torch
from methods.made import gradients, training
from torch.nn import functional as F

from diffusion2gan.methods.dmd import FAKE, MATCHING
from diffusion2gan.methods.dmd2 import HEAD_FAKE, HEAD_REAL, SCORED


@pytest.fixture
def unclipped(monkeypatch):
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)


def logit(fake, noisy, timesteps, text):
    """D's logits of noisy latents, from the middle block of a whole pass of the U-Net."""
    seen = []
    hook = fake.unet.mid_block.register_forward_hook(lambda *given: seen.append(given[-1]))
    fake.unet(noisy, timesteps, text)
    hook.remove()
    norm, _, last = fake.head
    return last(F.silu(norm(seen[0])))


def test_the_head_reads_the_bottleneck_and_leaves_the_estimate(small_teacher_folder):
    made = training("dmd2", small_teacher_folder)
    (batch,) = made.batches(0)
    noisy, timesteps = made.noised(batch, batch.x, SCORED, 0.0, 1.0)
    text = batch.conditions["text_embeddings"]
    (scored,) = made.fake(noisy, timesteps=timesteps, scored=True, text_embeddings=text)
    torch.testing.assert_close(scored, logit(made.fake, noisy, timesteps, text))
    estimated = made.real(noisy, timesteps=timesteps, text_embeddings=text)
    torch.testing.assert_close(made.fake(noisy, timesteps=timesteps, text_embeddings=text), estimated)
    later, other = (made.fake(noisy, timesteps=t, scored=True, text_embeddings=c)[0] for t, c in (
        (999 - timesteps, text), (timesteps, text.roll(1, 0)),
    ))  # fmt: skip
    assert not torch.allclose(scored, later) and not torch.allclose(scored, other)


def test_the_first_direction_without_guidance_is_zero(small_teacher_folder):
    """The fake denoiser starts as the teacher."""
    made = training("dmd2", small_teacher_folder, guidance=1)
    assert made.step(0)["matching_loss"] < 1e-12
    assert made.step(1)["matching_loss"] > 1e-6
    assert training("dmd2", small_teacher_folder).step(0)["matching_loss"] > 1e-6  # guided


def test_the_gradient_of_g_is_the_direction_and_that_of_the_head(small_teacher_folder, unclipped):
    made = training("dmd2", small_teacher_folder, guidance=1.75, lambda_adversarial=0.5)
    made.step(0)  # the fake denoiser is now another network than the teacher
    student, fake, teacher = made.student, made.fake, made.teacher
    (batch,) = made.batches(3)  # the fourth, after three updates
    text, empty = batch.conditions["text_embeddings"], teacher.encode_text([""] * 4)["text_embeddings"]
    x = student(made.fresh_noise(batch), text)
    noisy, timesteps = made.noised(batch, x.detach(), MATCHING, 0.02, 0.98)
    with torch.no_grad():
        alpha = teacher.scheduler.alphas_cumprod[timesteps].double().sqrt().view(-1, 1, 1, 1)
        given, without, faked = (
            alpha * noisy - (1 - alpha**2).sqrt() * unet(noisy, timesteps, each).sample
            for unet, each in ((teacher.unet, text), (teacher.unet, empty), (fake.unet, text))
        )
        real = 1.75 * given - 0.75 * without
        direction = (faked - real) / (x - real).abs().flatten(1).mean(1).view(-1, 1, 1, 1)
    scored, t = made.noised(batch, torch.zeros_like(x), SCORED, 0.0, 1.0)  # the noise alone
    scored = scored + teacher.scheduler.alphas_cumprod[t].double().sqrt().view(-1, 1, 1, 1) * x
    generated = -F.logsigmoid(logit(fake, scored, t, text)).mean()
    weights = list(student.parameters())
    matching = torch.autograd.grad(x, weights, direction / x.numel(), retain_graph=True)
    adversarial = torch.autograd.grad(generated, weights)
    kept = gradients(made, "student")
    numbers = made.step(1)
    assert numbers["gan_loss"] == pytest.approx(generated.item())
    assert numbers["loss"] == pytest.approx(numbers["matching_loss"] + 0.5 * numbers["gan_loss"])
    for gradient, one, other in zip(kept, matching, adversarial, strict=True):
        expected = one + 0.5 * other
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item() + 1e-14)


def test_the_fake_denoiser_learns_g_s_latents_and_its_head_the_data(small_teacher_folder, unclipped):
    made = training("dmd2", small_teacher_folder, fake_updates=1, lambda_head=0.3)
    (batch,) = made.batches(0)
    text = batch.conditions["text_embeddings"]
    with torch.no_grad():
        x = made.student(made.fresh_noise(batch), text)
    noisy, timesteps = made.noised(batch, x, FAKE, 0.0, 1.0)
    alpha = made.scheduler.alphas_cumprod[timesteps].double().sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    estimated = alpha * noisy - sigma * made.fake.unet(noisy, timesteps, text).sample
    denoising = (((estimated - x) * alpha / sigma) ** 2).mean()
    real, fake = (
        logit(made.fake, *made.noised(batch, each, number, 0.0, 1.0), text)
        for each, number in ((batch.x, HEAD_REAL), (x, HEAD_FAKE))
    )
    head = -(F.logsigmoid(real) + torch.log(1 - torch.sigmoid(fake))).mean()
    weights = list(made.fake.parameters())
    expected = torch.autograd.grad(denoising + 0.3 * head, weights)
    kept = gradients(made, "fake")
    numbers = made.step(0)
    assert (numbers["fake_loss"], numbers["head_loss"]) == pytest.approx((denoising.item(), head.item()), rel=1e-6)
    for gradient, other in zip(kept, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-6 * other.abs().max().item() + 1e-14)


def test_each_update_of_the_fake_denoiser_has_a_batch_of_its_own(small_teacher_folder, monkeypatch):
    made, order, seeds, of_g_now = training("dmd2", small_teacher_folder), [], [], []
    for name, optimizer in made.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: order.append(name))
    learn = made.fake_losses

    def watched(batch, x):
        seeds.append(batch.part.seed)
        of_g_now.append(torch.equal(x, made.generated(batch)))
        return learn(batch, x)

    monkeypatch.setattr(made, "fake_losses", watched)
    made.step(0)
    made.step(1)
    assert order == ["student", "fake", "fake", "fake"] * 2
    assert len(set(seeds)) == 6 and made.batch_count == 3 * made.settings.iterations
    assert of_g_now == [False, True, True] * 2  # the first sees the latents of G's own update


def test_g_learns_nothing_from_the_noise_of_the_pairs(small_teacher_folder, monkeypatch):
    one, other = training("dmd2", small_teacher_folder), training("dmd2", small_teacher_folder)
    read = other.read

    def shuffled(indices, part):
        batch = read(indices, part)
        batch.z = batch.z.flip(0)
        return batch

    monkeypatch.setattr(other, "read", shuffled)
    first, second = one.step(0), other.step(0)
    assert all(torch.equal(*each) for each in zip(one.student.parameters(), other.student.parameters(), strict=True))
    assert {**first, "images_per_second": 0} == {**second, "images_per_second": 0}


def test_a_step_of_g_leaves_no_gradient_on_the_head(small_teacher_folder):
    made = training("dmd2", small_teacher_folder)
    made.generator_step(made.batches(0))
    weights = list(made.modules["fake"].parameters())
    assert all(weight.grad is None for weight in weights) and all(weight.requires_grad for weight in weights)
