"""Both stages by their scripts: killed at will they end in the same bits; plain diffusers draws with the student."""

import functools
import json
import os
import random
import signal

import pandas as pd
import pytest
import torch
from accelerate import PartialState
from diffusers import DiffusionPipeline
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.images import load_image, to_uint8
from diffusion2gan.io import file_sha256
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pairs.shards import index_shards, pair_seeds, write_shard
from diffusion2gan.sampling.folder import noise_seeds
from diffusion2gan.seeds import noise
from diffusion2gan.teacher import load_teacher
from diffusion2gan.training import checkpoint, distillation
from diffusion2gan.training.loop import train
from diffusion2gan.training.regression import RegressionTraining
from scripts.distill import train_gan, train_regression
from scripts.evaluate import sample

PROMPTS = ["a red apple on a blue background", "a fox on a gray background", "a tree on a white background"]
STEPS = 12


@pytest.fixture(scope="module")
def files(small_teacher_folder, tmp_path_factory):
    """Options that name a teacher, its pairs and a metric."""
    folder = tmp_path_factory.mktemp("distillation")
    pairs(folder / "pairs", small_teacher_folder, torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    trunk = VGG("latent", 4, 0, width=0.125)
    LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save(folder / "lpips.safetensors")
    teacher = str(small_teacher_folder)
    return {"teacher": teacher, "pairs": folder / "pairs", "lpips": folder / "lpips.safetensors", "init": teacher}


def pairs(folder, teacher, latents):
    folder.mkdir()
    prompts = pd.DataFrame({"prompt_id": range(3), "caption": PROMPTS})
    prompts.to_parquet(folder / "prompts.parquet")
    recipe = {"teacher": str(teacher), "scheduler": "ddim, eta 0", "steps": 3, "guidance": 2.0}
    recipe |= {"prompts_sha256": file_sha256(folder / "prompts.parquet")}
    ids = [pair % 3 for pair in range(len(latents))]
    path = folder / "shard-00000.safetensors"
    write_shard(path, latents, pair_seeds(range(len(latents)), 0), ids, 0, recipe)
    index_shards([path], folder / "prompts.parquet").to_parquet(folder / "index.parquet")


def arguments(stage, files, folder, **changes):
    """The script of a stage and what it is told."""
    options = {
        "loss": "e_latent_lpips", "iterations": STEPS, "batch_size": 4, "learning_rate": 1e-3, "warmup": 2,
        "ema_decay": 0.9, "seed": 3, "checkpoints": folder / "checkpoints", "out": folder / "student",
        "history": folder / "history.csv", "metrics": folder / "metrics" / "training.json",
        "samples": folder / "samples",
    }  # fmt: skip
    options |= files
    if stage == "gan":
        options |= dict.fromkeys(("z_conditioning", "r1", "multi_scale", "mix_and_match"), True) | {"r1_every": 4}
        return train_gan.main, train_gan.Arguments(**options | changes)
    del options["init"]
    return train_regression.main, train_regression.Arguments(**options | changes)


def run(stage, files, folder, killed_at=None, while_saving=False) -> int:
    """Run a stage in a process of its own, which may be killed at the start of a step, or as it saves after it."""
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    try:
        distillation.train = functools.partial(train, checkpoint_every=2)
        batches = RegressionTraining.batches

        def dying(training, step):
            if step == killed_at and while_saving:
                checkpoint.torch.save = half_a_file
            elif step == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return batches(training, step)

        RegressionTraining.batches = dying
        main, options = arguments(stage, files, folder)
        main(options)
        os._exit(0)
    finally:
        os._exit(1)


def half_a_file(state, path):
    path.write_bytes(b"half a file")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def on_the_cpu():
    """The same bits are promised there, and so trainings go there also where there is a GPU."""
    PartialState._reset_state()  # it remembers the device of an earlier test
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    PartialState._reset_state()


@pytest.fixture(scope="module", params=["regression", "gan"])
def undisturbed(request, on_the_cpu, files, tmp_path_factory):
    """A stage, and the folder of a run of it that nobody disturbed."""
    folder = tmp_path_factory.mktemp(f"undisturbed-{request.param}")
    main, options = arguments(request.param, files, folder)
    main(options)
    return request.param, folder


def test_five_times_killed_the_student_is_the_same_to_the_byte(undisturbed, files, tmp_path):
    stage, whole = undisturbed
    steps = sorted(random.Random(stage).sample(range(1, STEPS), 5))
    for number, step in enumerate(steps):
        ended = run(stage, files, tmp_path, step, while_saving=number == 2)
        assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL
        assert not (tmp_path / "student").exists()
    assert run(stage, files, tmp_path) == 0
    student = "student/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / student).read_bytes() == (whole / student).read_bytes()
    lasting = ["step", "loss", "generator_evaluations"]
    resumed, history = (pd.read_csv(folder / "history.csv")[lasting] for folder in (tmp_path, whole))
    pd.testing.assert_frame_equal(resumed, history)


def test_plain_diffusers_draws_what_sample_draws(undisturbed, tmp_path):
    _, folder = undisturbed
    pd.DataFrame({"caption": PROMPTS}).to_parquet(tmp_path / "prompts.parquet")
    student = folder / "student"
    options = {"prompts": tmp_path / "prompts.parquet", "count": 3, "out": tmp_path / "drawn", "seed": 7}
    sample.main(sample.Arguments(model=str(student), **options))
    pipeline = DiffusionPipeline.from_pretrained(student, safety_checker=None)
    z = noise(noise_seeds(7, range(3)), (4, 8, 8))
    options = {"num_inference_steps": 1, "guidance_scale": 0, "output_type": "np"}
    for i, prompt in enumerate(PROMPTS):
        picture = (pipeline(prompt, latents=z[i : i + 1], **options).images[0] * 255).round()
        assert abs(picture - load_image(tmp_path / "drawn" / f"{i:05d}.png")).max() <= 1


def test_speed_memory_and_sample_grids_are_left(undisturbed, files):
    _, folder = undisturbed
    result = json.loads((folder / "metrics/training.json").read_text())
    assert result["metrics"]["images_per_second"] > 0 and result["metrics"]["peak_memory_gib"] > 0.05
    assert (result["metrics"]["batch_size"], result["processes"], result["seed"]) == (4, 1, 3)
    counts = {"pairs_forward": 16 * 6, "student_forward": 4 * STEPS, "student_backward": 4 * STEPS}
    assert {name: count for name, count in result["evaluations"].items() if count} == counts
    grids = sorted(path.name for path in (folder / "samples").iterdir())
    assert grids == [f"{step:06d}.png" for step in range(1, STEPS + 1)]
    shown = load_image(folder / "samples" / grids[-1])
    assert shown.shape == (2 * 66 + 2, 8 * 66 + 2, 3)
    teacher = load_teacher(files["teacher"])
    x = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half().float()
    with torch.no_grad():
        decoded = to_uint8(teacher.decode(x[:1]))[0].astype(int)
    assert abs(shown[2:66, 2:66] - decoded).max() <= 1  # the teacher's above
    first = Image.open(folder / "samples" / grids[0]).tobytes()
    assert first != Image.open(folder / "samples" / grids[-1]).tobytes()


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_networks_in_half_precision_and_pairs_as_they_are_stored(stage, files, tmp_path):
    main, options = arguments(stage, files, tmp_path, autocast=True, gradient_checkpointing=True, iterations=1)
    main(options)
    assert (tmp_path / "student").exists()


@pytest.mark.parametrize("change", ["learning_rate", "ensemble", "loss", "batch_size"])
def test_a_checkpoint_of_other_settings_is_refused(undisturbed, files, change):
    stage, folder = undisturbed
    value = {"learning_rate": 2e-3, "ensemble": "bg", "loss": "latent_lpips", "batch_size": 2}[change]
    main, options = arguments(stage, files, folder, **{change: value})
    with pytest.raises(UserError, match=f"{change} was .* and is {value!r}.*delete"):
        main(options)


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_mistakes_are_one_line(stage, files, tmp_path):
    def complaint(**changes):
        main, options = arguments(stage, files | changes, tmp_path)
        with pytest.raises(UserError) as error:
            main(options)
        assert "\n" not in str(error.value)
        return str(error.value)

    pairs(tmp_path / "wide", files["teacher"], torch.randn(4, 16, 8, 8))
    pairs(tmp_path / "other", "others/teacher", torch.randn(4, 4, 8, 8))
    assert "16 × 8 × 8, the student makes 4 × 8 × 8: take pairs of its own teacher" in complaint(
        pairs=tmp_path / "wide"
    )
    assert "made by the teacher 'others/teacher', not by" in complaint(pairs=tmp_path / "other")
    assert "there are no pairs in" in complaint(pairs=tmp_path / "nowhere")
    assert "a batch of 6 does not divide among 1 process with 4 micro-batches" in complaint(
        batch_size=6, accumulation=4
    )
    if stage == "gan":
        assert "no student can start from" in complaint(init=tmp_path / "no-run" / "student")
