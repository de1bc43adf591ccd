"""A U-Net as a denoiser, against the scheduler of diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler

from diffusion2gan.generator import Generator
from diffusion2gan.methods.denoising import Denoiser, NoiseLevels, guided
from diffusion2gan.teacher import Teacher

TIMESTEPS = torch.tensor([0, 400, 999])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_estimate_is_that_of_ddim(small_teacher_folder, prediction_type):
    student = Generator.from_teacher(small_teacher_folder)
    scheduler = DDIMScheduler.from_config(
        student.scheduler.config, prediction_type=prediction_type, timestep_spacing="leading"
    )
    scheduler.set_timesteps(1000)
    x, text = torch.randn(3, 4, 16, 16), torch.randn(3, 16, 64)
    with torch.no_grad():
        found = Denoiser(student.unet, scheduler)(x, TIMESTEPS, text)
        for i, t in enumerate(TIMESTEPS):
            prediction = student.unet(x[i : i + 1], t, text[i : i + 1]).sample
            expected = scheduler.step(prediction, t, x[i : i + 1]).pred_original_sample
            torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-4)


def test_guidance_goes_on_from_the_unconditional_estimate_through_the_conditional_one():
    calls = []

    def denoiser(noisy, timesteps, text_embeddings, shift):
        calls.append(len(noisy))
        return (
            noisy * timesteps.view(-1, 1, 1, 1) + text_embeddings.mean((1, 2)).view(-1, 1, 1, 1) + shift[:, None, None]
        )

    x, text = torch.randn(3, 4, 2, 2), torch.randn(3, 5, 6)
    conditions = {"text_embeddings": text, "shift": torch.ones(3, 1)}
    nothing = {"text_embeddings": torch.zeros(1, 5, 6), "shift": torch.ones(1, 1)}
    found = guided(denoiser, x, TIMESTEPS, conditions, nothing, 3.0)
    scaled = x * TIMESTEPS.view(-1, 1, 1, 1) + 1
    torch.testing.assert_close(found, scaled + 3 * text.mean((1, 2)).view(-1, 1, 1, 1))
    plain = guided(denoiser, x, TIMESTEPS, conditions, nothing, 1.0)
    torch.testing.assert_close(plain, scaled + text.mean((1, 2)).view(-1, 1, 1, 1))
    assert calls == [6, 3]


def test_the_first_noise_level_is_pure_noise_and_the_others_are_those_of_diffusers(small_teacher_folder):
    scheduler = Teacher(small_teacher_folder).scheduler
    levels = NoiseLevels(scheduler, 5)
    x, noise = torch.randn(2, 5, 4, 3, 3)
    noisy = levels.noised(x, noise, torch.arange(5))
    expected = scheduler.add_noise(x, noise, levels.timesteps)
    assert torch.equal(noisy[0], noise[0]) and not torch.allclose(noisy[0], expected[0], atol=1e-2)
    torch.testing.assert_close(noisy[1:], expected[1:])
