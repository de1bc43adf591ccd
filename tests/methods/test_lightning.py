"""SDXL-Lightning: closed forms, what D is given, its two phases, and each gradient of a step computed again."""

import math

import pytest
import torch
from methods.made import gradients, loaded, training
from torch.nn import functional as F

from diffusion2gan.discriminators.unet import EncoderDiscriminator
from diffusion2gan.losses.adversarial import discriminator_loss
from diffusion2gan.methods import lightning
from diffusion2gan.methods.denoising import random_levels, random_noise
from diffusion2gan.methods.lightning import FAKE, REAL, RENOISED

PHASES = pytest.mark.parametrize("conditional", [True, False])


def alpha(made, levels):
    return made.levels.alphas_cumprod[levels].double().sqrt().view(-1, 1, 1, 1)


def test_steps_of_the_previous_network_multiply(small_teacher_folder):
    """For x ~ N(m, s²) n DDIM steps multiply xₜ - αₜ m by Π k(t, u), k = (αᵤ αₜ s² + σᵤ σₜ) / Sₜ²."""
    m, s = 0.7, 0.4
    made = training("lightning", small_teacher_folder, steps=2, substeps=3)
    alphas = made.levels.alphas_cumprod.double().sqrt()
    of = dict(zip(made.levels.timesteps.tolist(), alphas.tolist(), strict=False))

    def best(noisy, timesteps, **_):
        a = torch.tensor([of[t] for t in timesteps.tolist()], dtype=torch.float64).view(-1, 1, 1, 1)
        return m + a * s**2 / (a**2 * s**2 + 1 - a**2) * (noisy - a * m)

    made.previous.forward = best
    (batch,) = made.batches(0)
    for level in (0, 3):
        factor = 1.0
        for t, u in zip(alphas[level : level + 3].tolist(), alphas[level + 1 : level + 4].tolist(), strict=True):
            factor *= (u * t * s**2 + math.sqrt((1 - u**2) * (1 - t**2))) / (t**2 * s**2 + 1 - t**2)
        levels, start = torch.full((4,), level), alphas[level]
        end = made.solved(batch, batch.z, levels, 1.0)
        torch.testing.assert_close(end - alphas[level + 3] * m, factor * (batch.z - start * m))


@PHASES
def test_a_student_that_steps_like_the_previous_network_cannot_be_told_from_it(conditional, small_teacher_folder):
    """With one substep real and generated latents are equal, and the gradient at D's logits is 2 p - 1."""
    made = training("lightning", small_teacher_folder, steps=4, substeps=1)
    (batch,) = made.batches(0)
    given = made.noisy(batch)
    generated, real = made.stepped(batch, given), made.solved(batch, given.latents, given.levels, 1.0)
    torch.testing.assert_close(generated, real)
    (logits,) = made.score(made.discriminator, batch, given, real, REAL, conditional)
    logits = logits.detach().requires_grad_()
    discriminator_loss([logits], [logits]).backward()
    torch.testing.assert_close(logits.grad * logits.numel(), 2 * torch.sigmoid(logits) - 1, rtol=1e-5, atol=1e-6)
    assert discriminator_loss([logits * 0], [logits * 0]).item() == pytest.approx(2 * math.log(2))


def test_d_starts_as_the_encoder_and_the_middle_of_the_teacher(small_teacher_folder):
    teacher, seen = loaded(small_teacher_folder), []
    discriminator = EncoderDiscriminator.from_teacher(teacher.unet).double()
    x, t = torch.randn(3, *teacher.latent_shape, dtype=torch.float64), torch.tensor([10, 500, 999])
    conditions = teacher.encode_text(["a fox", "a tree", "an owl"])
    hook = teacher.unet.mid_block.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        teacher.unet(x, t, conditions["text_embeddings"])
        hook.remove()
        torch.testing.assert_close(discriminator.features(x, t, **conditions), seen[0])
        (one,), (other,), (alone,) = (
            discriminator(x, t, origin, **conditions) for origin in ((x, t), (x.flip(0), t.flip(0)), None)
        )
    assert one.shape == alone.shape and not torch.allclose(one, other) and not torch.allclose(one, alone)


@PHASES
def test_d_is_given_the_timestep_of_what_it_sees(conditional, small_teacher_folder):
    made = training("lightning", small_teacher_folder, steps=4, batch_size=16)
    (batch,) = made.batches(0)
    given, seen = made.noisy(batch), []
    made.score(lambda *inputs, **_: seen.append(inputs), batch, given, batch.x, REAL, conditional)
    ((latents, timesteps, origin),) = seen
    starts = made.levels.timesteps[given.levels].tolist()
    assert set(starts) == {999, 749, 499, 249}  # those in which the student samples
    assert timesteps.tolist() == [{999: 749, 749: 499, 499: 249, 249: 0}[t] for t in starts]
    torch.testing.assert_close(latents, batch.x)  # four steps: nothing is noised again
    assert (origin is not None) == conditional
    if conditional:
        torch.testing.assert_close(origin[0], given.latents)
        assert origin[1].tolist() == starts


def test_a_student_of_few_steps_is_judged_with_noise(small_teacher_folder):
    """Where its step ends in clean latents; real and generated have other noise of one level."""
    made = training("lightning", small_teacher_folder, steps=2, batch_size=16)
    (batch,) = made.batches(0)
    given, seen = made.noisy(batch), []
    for number in (REAL, FAKE):
        made.score(lambda *inputs, **_: seen.append(inputs), batch, given, batch.x, number, False)
    clean = given.ends == 4
    assert 0 < clean.sum() < 16
    (real, timesteps, _), (fake, others, _) = seen
    assert timesteps.tolist() == others.tolist() and set(timesteps[clean].tolist()) <= {10, 250, 500, 750}
    assert (timesteps[~clean] == 499).all()
    signal = made.teacher.scheduler.alphas_cumprod[timesteps].double().sqrt().view(-1, 1, 1, 1)
    noises = [((each - signal * batch.x) / (1 - signal**2).sqrt())[clean] for each in (real, fake)]
    assert all(abs(noise.std() - 1) < 0.05 for noise in noises)
    assert abs((noises[0] * noises[1]).mean()) < 0.05
    torch.testing.assert_close(real[~clean], batch.x[~clean])


@PHASES
def test_the_gradients_of_both_networks(conditional, small_teacher_folder, monkeypatch):
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)
    made = training("lightning", small_teacher_folder, conditional_share=float(conditional))
    teacher, (batch,) = made.teacher, made.batches(0)
    text = batch.conditions["text_embeddings"]
    start = 2 * random_levels(batch, 2, lightning.LEVEL)
    t, alpha_bar = made.levels.timesteps, made.levels.alphas_cumprod.double()

    def step(unet, x, level, end):
        a, b = (alpha_bar[each].sqrt().view(-1, 1, 1, 1) for each in (level, end))
        v = unet(x, t[level], text).sample
        clean, noise = a * x - (1 - a**2).sqrt() * v, (1 - a**2).sqrt() * x + a * v
        return b * clean + (1 - b**2).sqrt() * noise

    a = alpha(made, start) * (start > 0).view(-1, 1, 1, 1)  # pure noise at level 0
    noisy = a * batch.x + (1 - a**2).sqrt() * random_noise(batch, lightning.NOISE)
    with torch.no_grad():
        real = step(teacher.unet, step(teacher.unet, noisy, start, start + 1), start + 1, start + 2)
    generated = step(made.student.unet, noisy, start, start + 2)
    drawn = torch.tensor([10, 250, 500, 750])[random_levels(batch, 4, RENOISED)]
    clean = start == 2
    seen = torch.where(clean, drawn, 499)
    signal = teacher.scheduler.alphas_cumprod[drawn].double().sqrt().view(-1, 1, 1, 1)

    def logits(x, number):
        noised = signal * x + (1 - signal**2).sqrt() * random_noise(batch, number)
        x = torch.where(clean.view(-1, 1, 1, 1), noised, x)
        one = made.discriminator.features(x, seen, text)
        other = made.discriminator.features(noisy, t[start], text) if conditional else torch.zeros_like(one)
        return made.discriminator.head(torch.cat([one, other], 1))

    judged = -(F.logsigmoid(logits(real, REAL)) + F.logsigmoid(-logits(generated.detach(), FAKE))).mean()
    of_d = torch.autograd.grad(judged, list(made.discriminator.parameters()), allow_unused=True)
    loss = -F.logsigmoid(logits(generated, FAKE)).mean()
    of_g = torch.autograd.grad(loss, list(made.student.parameters()))
    kept = gradients(made, "discriminator"), gradients(made, "student")
    made.optimizers["discriminator"].param_groups[0].update(lr=0.0, weight_decay=0.0)  # G sees this D
    numbers = made.step(0)
    assert numbers["discriminator_loss"] == pytest.approx(judged.item(), rel=1e-5)
    assert numbers["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for ours, wanted in zip(kept, (of_d, of_g), strict=True):
        for gradient, other in zip(ours, wanted, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5 * other.abs().max().item() + 1e-14)


def test_d_loses_sight_of_the_start_in_the_second_phase(small_teacher_folder):
    made, seen = training("lightning", small_teacher_folder, iterations=5, conditional_share=0.5), []
    made.modules["discriminator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2] is not None))
    for step in range(5):
        made.step(step)
    assert seen == [True] * 3 * 3 + [False] * 3 * 2


def test_the_first_level_is_pure_noise(small_teacher_folder):
    made = training("lightning", small_teacher_folder, steps=1, batch_size=8)
    (batch,) = made.batches(0)
    given = made.noisy(batch)
    assert given.levels.tolist() == [0] * 8 and given.ends.tolist() == [2] * 8
    torch.testing.assert_close(given.latents, random_noise(batch, lightning.NOISE))
