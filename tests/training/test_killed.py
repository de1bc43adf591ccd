"""A run of either stage that is killed ends in the same bits; plain diffusers samples with its student."""

import json
import os
import random
import signal
import types

import pandas as pd
import pytest
import torch
from accelerate import PartialState
from built import CAPTIONS
from diffusers import DiffusionPipeline
from PIL import Image
from training.stages import STEPS, arguments

from diffusion2gan.errors import UserError
from diffusion2gan.images import load_image, to_uint8
from diffusion2gan.sampling.folder import noise_seeds
from diffusion2gan.seeds import noise
from diffusion2gan.teacher import load_teacher
from diffusion2gan.training import checkpoint, loop
from diffusion2gan.training.student import StudentTraining
from scripts.evaluate import sample

pytestmark = pytest.mark.xdist_group("killed")  # one undisturbed training for all tests


def run(stage, files, folder, killed_at=None, while_saving=False) -> int:
    """Run a stage in its own process, which may be killed at the start of a step or while it saves."""
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    try:
        clock = types.SimpleNamespace(minutes=0)
        loop.time = types.SimpleNamespace(monotonic=lambda: 60 * clock.minutes)
        batches = StudentTraining.batches

        def dying(training, step):
            clock.minutes += 1
            if step == killed_at and while_saving:
                checkpoint.dcp.save = half_a_checkpoint
            elif step == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return batches(training, step)

        StudentTraining.batches = dying
        main, options = arguments(stage, files, folder, checkpoint_minutes=2)
        main(options)
        os._exit(0)
    finally:
        os._exit(1)


def half_a_checkpoint(tensors, storage_writer):
    storage_writer.path.mkdir()
    (storage_writer.path / "__0_0.distcp").write_bytes(b"half a file")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def on_the_cpu():
    """Train on the CPU even if there is a GPU, because only there the bits are reproducible."""
    PartialState._reset_state()  # it remembers the device of an earlier test
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    PartialState._reset_state()


@pytest.fixture(scope="module", params=["regression", "gan"])
def undisturbed(request, on_the_cpu, files, tmp_path_factory):
    """A stage, and the folder of an uninterrupted run of it."""
    folder = tmp_path_factory.mktemp(f"undisturbed-{request.param}")
    main, options = arguments(request.param, files, folder)
    main(options)
    return request.param, folder


@pytest.fixture(scope="module")
def interrupted(undisturbed, files, tmp_path_factory):
    """A stage, and the folder of a run of it that was killed after its first checkpoint."""
    stage, _ = undisturbed
    folder = tmp_path_factory.mktemp(f"interrupted-{stage}")
    run(stage, files, folder, killed_at=4)
    return stage, folder


def test_a_training_killed_three_times_gives_the_same_student_to_the_byte(undisturbed, files, tmp_path):
    stage, whole = undisturbed
    steps = sorted(random.Random(stage).sample(range(1, STEPS), 3))
    for number, step in enumerate(steps):
        ended = run(stage, files, tmp_path, step, while_saving=number == 2)
        assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL
        assert not (tmp_path / "student").exists()
    assert run(stage, files, tmp_path) == 0
    student = "student/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / student).read_bytes() == (whole / student).read_bytes()
    timed = ["seconds", "images_per_second"]
    resumed, history = (pd.read_csv(folder / "history.csv").drop(columns=timed) for folder in (tmp_path, whole))
    numbers = {"step", "loss", "generator_evaluations", "student_learning_rate", "student_gradient_norm"}
    if stage == "gan":
        numbers |= {"discriminator_loss", "r1", "regression_loss", "gan_loss", "real_accuracy", "fake_accuracy"}
        numbers |= {"discriminator_learning_rate", "discriminator_gradient_norm"}
    assert set(history) == numbers
    pd.testing.assert_frame_equal(resumed, history)


def test_plain_diffusers_samples_what_sample_py_samples(undisturbed, tmp_path):
    _, folder = undisturbed
    pd.DataFrame({"caption": CAPTIONS}).to_parquet(tmp_path / "prompts.parquet")
    student = folder / "student"
    options = {"prompts": tmp_path / "prompts.parquet", "count": 3, "out": tmp_path / "drawn", "seed": 7}
    sample.main(sample.Arguments(model=str(student), **options))
    pipeline = DiffusionPipeline.from_pretrained(student, safety_checker=None)
    z = noise(noise_seeds(7, range(3)), (4, 16, 16))
    options = {"num_inference_steps": 1, "guidance_scale": 0, "output_type": "np"}
    for i, prompt in enumerate(CAPTIONS):
        picture = (pipeline(prompt, latents=z[i : i + 1], **options).images[0] * 255).round()
        assert abs(picture - load_image(tmp_path / "drawn" / f"{i:05d}.png")).max() <= 1


def test_speed_memory_and_sample_grids_are_written(undisturbed, files):
    stage, folder = undisturbed
    result = json.loads((folder / "metrics/training.json").read_text())
    assert result["metrics"]["images_per_second"] > 0 and result["metrics"]["peak_memory_gib"] > 0.05
    assert (result["metrics"]["batch_size"], result["processes"], result["seed"]) == (4, 1, 3)
    times = {"regression": 1, "gan": 2}[stage]  # G runs for D, and for its own gradient
    counts = {"pairs_forward": 16 * 6, "student_forward": times * 4 * STEPS, "student_backward": 4 * STEPS}
    if stage == "gan":
        counts |= {"discriminator_forward": 3 * 4 * STEPS, "discriminator_backward": 3 * 4 * STEPS}
    assert {name: count for name, count in result["evaluations"].items() if count} == counts
    grids = sorted(path.name for path in (folder / "samples").iterdir())
    assert grids == [f"{step:06d}.png" for step in range(2, STEPS + 1, 2)]  # ten at most
    shown = load_image(folder / "samples" / grids[-1])
    assert shown.shape == (2 * 66 + 2, 8 * 66 + 2, 3)
    teacher = load_teacher(files["teacher"])
    x = torch.randn(16, 4, 16, 16, generator=torch.Generator().manual_seed(0)).half().float()
    with torch.no_grad():
        decoded = to_uint8(teacher.decode(x[:1]))[0].astype(int)
    assert abs(shown[2:66, 2:66] - decoded).max() <= 1  # the teacher's above
    first = Image.open(folder / "samples" / grids[0]).tobytes()
    assert first != Image.open(folder / "samples" / grids[-1]).tobytes()


@pytest.mark.parametrize("change", ["learning_rate", "ensemble", "loss", "batch_size"])
def test_a_checkpoint_of_other_settings_is_refused(interrupted, files, change):
    stage, folder = interrupted
    value = {"learning_rate": 2e-3, "ensemble": "bg", "loss": "latent_lpips", "batch_size": 2}[change]
    main, options = arguments(stage, files, folder, **{change: value})
    with pytest.raises(UserError, match=f"{change} was .* and is {value!r}.*delete"):
        main(options)
