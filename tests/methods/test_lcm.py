"""Latent consistency models: the target by diffusers' solver, the moving average, and the parametrisation left out."""

import torch
from diffusers import DDIMScheduler, LCMScheduler
from methods.made import training


def test_the_target_is_the_student_s_estimate_after_a_step_of_diffusers_solver(small_teacher_folder):
    made = training("lcm", small_teacher_folder, noise_levels=4, guidance=2.5, target_decay=0.5)
    made.step(0)  # student, target and teacher are now three networks
    teacher, (batch,) = made.teacher, made.batches(1)
    settings = {"timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True}
    scheduler = DDIMScheduler.from_config(teacher.scheduler.config, **settings)
    scheduler.set_timesteps(4)
    text, empty = batch.conditions["text_embeddings"], teacher.encode_text([""] * 4)["text_embeddings"]
    noisy = batch.z.double()
    for level, t in enumerate(scheduler.timesteps):
        with torch.no_grad():
            given, without = (teacher.unet(noisy, t, each).sample for each in (text, empty))
            nearer = scheduler.step(without + 2.5 * (given - without), t, noisy).prev_sample
            expected = nearer
            if level < 3:
                t = scheduler.timesteps[level + 1]
                alpha = scheduler.alphas_cumprod[t].double().sqrt()
                expected = alpha * nearer - (1 - alpha**2).sqrt() * made.target.unet(nearer, t, text).sample
        end = made.consistency_target(batch, noisy, torch.full((4,), level))
        torch.testing.assert_close(end, expected, rtol=1e-5, atol=1e-5)


def test_the_loss_compares_the_student_with_the_target_and_only_the_student_learns(small_teacher_folder):
    made = training("lcm", small_teacher_folder)
    (batch,) = made.batches(0)
    seen = {}
    target = made.consistency_target

    def remember(*given):
        seen.update(noisy=given[1], levels=given[2], end=target(*given))
        return seen["end"]

    made.consistency_target = remember
    loss = made.loss_of(batch)
    timesteps = made.levels.timesteps[seen["levels"]]
    estimated = made.student(seen["noisy"], timesteps=timesteps, **batch.conditions)
    torch.testing.assert_close(loss, (estimated - seen["end"]).square().mean())
    assert not seen["end"].requires_grad
    for level, noisy, x in zip(seen["levels"], seen["noisy"], batch.x, strict=True):
        alpha = made.levels.alphas_cumprod[level].sqrt().double() if level else 0.0
        noise = (noisy - alpha * x) / (1 - alpha**2) ** 0.5  # at level 0 the latents are pure noise
        assert abs(noise.std() - 1) < 0.15 and abs((noise * x).mean() / x.std()) < 0.15


def test_the_target_is_a_moving_average_of_the_student(small_teacher_folder):
    made = training("lcm", small_teacher_folder, target_decay=0.8)
    before = [weight.clone() for weight in made.target.parameters()]
    made.step(0)
    student = made.modules["student"].parameters()
    for old, new, weight in zip(before, made.target.parameters(), student, strict=True):
        torch.testing.assert_close(new, 0.8 * old + 0.2 * weight, rtol=0, atol=1e-12)
        assert not new.requires_grad


def test_lcm_s_parametrisation_is_the_estimate_itself_at_every_level(small_teacher_folder):
    """c_skip = 0 and c_out = 1 to 1e-4, with the 50 levels of the paper."""
    levels = training("lcm", small_teacher_folder, noise_levels=50).levels
    assert levels.timesteps.min() >= 10
    for t in levels.timesteps:
        c_skip, c_out = LCMScheduler().get_scalings_for_boundary_condition_discrete(t)
        assert c_skip < 1e-4 and abs(c_out - 1) < 1e-4
