"""Guidance, DDIM, noise levels and random draws, against the scheduler of diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler

from diffusion2gan.errors import UserError
from diffusion2gan.losses import BatchPart
from diffusion2gan.methods.denoising import NoiseLevels, ddim_step, guided, random_levels, random_noise
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.student import MicroBatch

TIMESTEPS = torch.tensor([0, 400, 999])


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


def test_a_step_is_that_of_diffusers():
    scheduler = DDIMScheduler(set_alpha_to_one=True, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    levels = NoiseLevels(scheduler, 4)
    noisy, prediction = torch.randn(2, 3, 4, 2, 2)
    for level, t in enumerate(scheduler.timesteps):
        expected = scheduler.step(prediction, t, noisy)
        estimated = expected.pred_original_sample
        ends = (levels.alpha_bar(torch.full((3,), each), noisy) for each in (level, level + 1))
        torch.testing.assert_close(ddim_step(noisy, estimated, *ends), expected.prev_sample)


@pytest.mark.parametrize("steps", [1, 4, 16, 48, 61, 96, 1000])
def test_a_student_with_fewer_steps_has_every_second_or_third_level(steps):
    """diffusers itself returns one timestep too many for 61 steps, because it counts in floating-point numbers."""
    scheduler = DDIMScheduler()
    levels = NoiseLevels(scheduler, steps)
    assert len(levels.timesteps) == steps and levels.timesteps.max() == 999 and levels.timesteps.min() >= 0
    for substeps in (2, 3):
        if steps * substeps <= 1000:
            assert NoiseLevels(scheduler, steps * substeps).timesteps[::substeps].tolist() == levels.timesteps.tolist()


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(UserError, match="1001 steps are more than the 1000 timesteps of the teacher: use fewer"):
        NoiseLevels(DDIMScheduler(), 1001)


def test_a_micro_batch_draws_its_rows_of_the_whole_batch():
    def batch(rows):
        return MicroBatch(None, torch.zeros(6, 4, 2, 2)[rows], [], {}, BatchPart(rows, 6, 7))

    for draw in (lambda part, number: random_noise(part, number), lambda part, number: random_levels(part, 90, number)):
        whole = draw(batch(slice(0, 6)), 0)
        torch.testing.assert_close(draw(batch(slice(2, 5)), 0), whole[2:5], rtol=0, atol=0)
        assert not torch.equal(draw(batch(slice(0, 6)), 1), whole) and len(whole.unique()) > 3
