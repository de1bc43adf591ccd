"""A GAN from scratch: no pair of noise and latent reaches it, and G's gradient is that of D's logits alone."""

import math

import pytest
import torch
from methods.made import gradients, training
from torch.nn import functional as F

from diffusion2gan.methods.denoising import random_noise
from diffusion2gan.methods.gigagan import Z

NAME = "gigagan-from-scratch"


def test_the_noise_is_fresh_and_the_latents_are_those_of_the_captions(small_teacher_folder):
    made = training(NAME, small_teacher_folder)
    seen = []
    for step in (0, 1, 2, 3):  # two passes over the pairs
        (batch,) = made.batches(step)
        pairs = made.pairs.batch(made.indices(step))
        assert torch.equal(batch.x, pairs.x) and batch.captions == pairs.captions
        assert torch.equal(batch.z, random_noise(batch, Z)) and batch.z.dtype == batch.x.dtype
        seen += [batch.z, pairs.z]
    values = torch.cat([z.flatten() for z in seen[::2]] + [seen[1].flatten(), seen[3].flatten()])
    assert len(values.unique()) > 0.999 * len(values)
    assert abs(values.std() - 1) < 0.02


def test_the_gradient_of_g_is_that_of_the_logits_alone(small_teacher_folder, monkeypatch):
    monkeypatch.setattr("diffusion2gan.training.student.MAX_NORM", math.inf)
    made = training(NAME, small_teacher_folder)
    made.optimizers["discriminator"].param_groups[0].update(lr=0.0, weight_decay=0.0)  # so that G sees the same D
    (batch,) = made.batches(0)
    text = batch.conditions["text_embeddings"]
    alpha = made.teacher.scheduler.alphas_cumprod[999].double().sqrt()
    v = made.student.unet(batch.z, 999, text).sample
    x = alpha * batch.z - (1 - alpha**2).sqrt() * v
    logits = made.discriminator(x, None, text)
    loss = -torch.stack([F.logsigmoid(each).mean() for each in logits]).mean()
    expected = torch.autograd.grad(loss, list(made.student.parameters()))
    kept = gradients(made, "student")
    numbers = made.step(0)
    assert numbers["gan_loss"] == pytest.approx(loss.item()) and numbers["loss"] == pytest.approx(0.5 * loss.item())
    assert "regression_loss" not in numbers
    for gradient, other in zip(kept, expected, strict=True):
        torch.testing.assert_close(gradient, 0.5 * other, rtol=1e-4, atol=1e-6 * other.abs().max().item() + 1e-14)
