"""UFOGen: fresh noise, the timesteps that D is given, and each gradient of a step computed again."""

import math

import pytest
import torch
from methods.made import gradients, training
from torch.nn import functional as F

from diffusion2gan.methods.ufogen import FAKE, REAL


def alpha(made, levels):
    return made.levels.alphas_cumprod[levels].double().sqrt().view(-1, 1, 1, 1)


def test_the_noise_of_generated_latents_is_fresh(small_teacher_folder):
    """A sample of the posterior would depend on the noise in xₜ; the real latents have another noise again."""
    made = training("ufogen", small_teacher_folder, batch_size=16)
    (batch,) = made.batches(0)
    given = made.diffused(batch)
    started = given.next_levels - 1
    before = alpha(made, started) * (started > 0).view(-1, 1, 1, 1)  # pure noise at level 0
    noises = [(given.latents - before * batch.x) / (1 - before**2).sqrt()]
    kept = given.next_levels < 4  # with noise
    for number in (REAL, FAKE):
        noisy, signal = made.renoised(batch, batch.x, given, number), alpha(made, given.next_levels)
        noises.append((noisy - signal * batch.x)[kept] / (1 - signal[kept] ** 2).sqrt())
        torch.testing.assert_close(noisy[~kept], batch.x[~kept])  # the last level is x itself
    noises[0] = noises[0][kept]
    assert 0 < kept.sum() < len(kept)
    correlations = torch.corrcoef(torch.stack([noise.flatten() for noise in noises]))
    torch.testing.assert_close(correlations, torch.eye(3, dtype=torch.float64), rtol=0, atol=0.06)
    assert all(abs(noise.std() - 1) < 0.05 for noise in noises)


def test_the_discriminator_is_given_the_timestep_of_what_it_sees(small_teacher_folder):
    made = training("ufogen", small_teacher_folder, batch_size=16)
    (batch,) = made.batches(0)
    given, seen = made.diffused(batch), []
    made.score(lambda x, z, timesteps, **_: seen.append(timesteps), batch, batch.x, given)
    nearer = {999: 749, 749: 499, 499: 249, 249: 0}
    assert seen[0].tolist() == [nearer[t] for t in given.timesteps.tolist()]
    assert len(set(seen[0].tolist())) == 4
    scores = [made.discriminator(batch.x, batch.z, timesteps=t, **batch.conditions)[0] for t in (seen[0], 0)]
    assert not torch.allclose(*scores)


def test_the_gradients_of_both_networks_are_those_of_equation_7(small_teacher_folder, monkeypatch):
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)
    made = training("ufogen", small_teacher_folder, lambda_reconstruction=0.3)
    (batch,) = made.batches(0)
    given = made.diffused(batch)
    noises = [made.renoised(batch, torch.zeros_like(batch.x), given, number) for number in (REAL, FAKE)]
    nearer = alpha(made, given.next_levels)
    timesteps = torch.cat([made.levels.timesteps, torch.tensor([0])])[given.next_levels]

    def logits(x):
        (each,) = made.discriminator(x, batch.z, timesteps=timesteps, **batch.conditions)
        return each

    signal = made.student.scheduler.alphas_cumprod[given.timesteps].double().sqrt().view(-1, 1, 1, 1)
    v = made.student.unet(given.latents, given.timesteps, batch.conditions["text_embeddings"]).sample
    x = signal * given.latents - (1 - signal**2).sqrt() * v
    real, fake = nearer * batch.x + noises[0], nearer * x + noises[1]
    discriminated = -(F.logsigmoid(logits(real)) + torch.log(1 - torch.sigmoid(logits(fake.detach())))).mean()
    expected = torch.autograd.grad(discriminated, list(made.discriminator.parameters()), allow_unused=True)
    generated = -F.logsigmoid(logits(fake)).mean() + 0.3 * (x - batch.x).square().mean()
    of_student = torch.autograd.grad(generated, list(made.student.parameters()))
    kept, of_g = gradients(made, "discriminator"), gradients(made, "student")
    learning_rate = made.optimizers["discriminator"].param_groups[0]["lr"]
    made.optimizers["discriminator"].param_groups[0]["lr"] = 0.0  # so that G's step sees the same D
    made.optimizers["discriminator"].param_groups[0]["weight_decay"] = 0.0
    numbers = made.step(0)
    assert learning_rate > 0 and numbers["discriminator_loss"] == pytest.approx(discriminated.item())
    assert numbers["loss"] == pytest.approx(generated.item())
    for ours, wanted in ((kept, expected), (of_g, of_student)):
        for gradient, other in zip(ours, wanted, strict=True):
            torch.testing.assert_close(
                gradient, other, rtol=1e-4, atol=1e-6 * other.abs().max().item()
            )  # logits are float32


def test_the_first_level_is_pure_noise(small_teacher_folder):
    """As in sampling; the other levels hold the latents."""
    made = training("ufogen", small_teacher_folder, batch_size=16)
    (batch,) = made.batches(0)
    held = made.diffused(batch)
    for level, noisy, x in zip(held.next_levels - 1, held.latents, batch.x, strict=True):
        trace = ((noisy * x).sum() / x.square().sum()).item()
        assert trace == pytest.approx(0.0 if level == 0 else alpha(made, level).item(), abs=0.15)
