"""The account of a training is what a real step of a small network allocates on the CPU."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from diffusion2gan.generator import Generator
from diffusion2gan.losses import mse
from diffusion2gan.memory.networks import Source
from diffusion2gan.memory.training import RandomPairs, Training
from diffusion2gan.settings import Fitting, GANSettings, RegressionSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.adversarial import AdversarialTraining, discriminator_of
from diffusion2gan.training.regression import RegressionTraining

SHAPE = (4, 16, 16)
COMMON = {"loss": "mse", "iterations": 2, "batch_size": 32, "ema_decay": 0.0}
GAN = GANSettings(**COMMON, z_conditioning=True, multi_scale=True, mix_and_match=True, r1=True, r1_every=1)


def allocated(training, teacher) -> int:
    """The peak of the bytes that a step and a sample grid allocate, by torch's profiler, and of what is kept before."""
    training.step(0)
    kept = {}
    for module in (*training.modules.values(), teacher.vae, teacher.text_encoder):
        for tensor in (*module.parameters(), *module.buffers()):
            for each in (tensor, tensor.grad):
                kept |= {} if each is None else {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()}
    for optimizer in training.optimizers.values():
        for state in optimizer.state.values():
            kept |= {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in state.values()}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        training.step(1)
        with torch.no_grad():
            teacher.decode(torch.zeros(8, *SHAPE))  # the sample grids
    now = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return sum(kept.values()) + peak


@pytest.mark.parametrize(
    ("settings", "fitting"),
    [
        (RegressionSettings(**COMMON), Fitting()),
        (RegressionSettings(**COMMON), Fitting(accumulation=16)),
        (GAN, Fitting(accumulation=2, gradient_checkpointing=True)),
    ],
    ids=["regression", "accumulated", "gan"],
)
def test_the_account_is_what_a_real_step_allocates(small_teacher_folder, settings, fitting):
    teacher = Teacher(str(small_teacher_folder))
    student = Generator.from_teacher(small_teacher_folder)
    arguments = {"student": student, "teacher": teacher, "pairs": RandomPairs(SHAPE), "settings": settings}
    arguments |= {"loss": lambda x0, x1, place: mse(x0, x1), "fitting": fitting}
    if isinstance(settings, GANSettings):
        training = AdversarialTraining(**arguments, discriminator=discriminator_of(settings, teacher))
    else:
        training = RegressionTraining(**arguments)
    teacher.drop_unet()
    counted = Training(settings, fitting, Source(str(small_teacher_folder), SHAPE)).count()
    assert counted == pytest.approx(allocated(training, teacher), rel=0.08)


def test_fsdp_is_counted_without_a_middle_block(bk_folder):
    settings = GANSettings(**COMMON | {"batch_size": 1}, multi_scale=True)
    counted = Training(settings, Fitting(shard=True), Source(str(bk_folder), SHAPE), parallel=True, sharded_over=8)
    assert counted.count() > 0
