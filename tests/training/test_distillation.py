"""Both stages by their scripts: a killed run ends in the same bits; plain diffusers samples with the student."""

import json
import os
import random
import signal
import types

import pandas as pd
import pytest
import torch
from accelerate import PartialState
from built import CAPTIONS, built, compared, loss_name, metric, pairs
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from diffusion2gan.errors import UserError
from diffusion2gan.images import load_image, to_uint8
from diffusion2gan.sampling.folder import noise_seeds
from diffusion2gan.seeds import noise
from diffusion2gan.teacher import load_teacher
from diffusion2gan.training import checkpoint, distillation, loop
from diffusion2gan.training.loop import train
from diffusion2gan.training.student import StudentTraining
from scripts.distill import train_gan, train_regression
from scripts.evaluate import sample

pytestmark = pytest.mark.xdist_group("distillation")  # one undisturbed training for all tests

STEPS = 12


@pytest.fixture(scope="module")
def files(small_teacher_folder, tmp_path_factory):
    """Options that name a teacher, its pairs and a metric."""
    folder, teacher = tmp_path_factory.mktemp("distillation"), str(small_teacher_folder)
    x = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = {"pairs": pairs(folder / "pairs", teacher, x), "lpips": metric(folder / "lpips.safetensors", "latent")}
    return {"teacher": teacher, "init": teacher} | found


def arguments(stage, files, folder, **changes):
    """The script of a stage and its options."""
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


def half_a_checkpoint(tensors, checkpoint_id):
    checkpoint_id.mkdir()
    (checkpoint_id / "__0_0.distcp").write_bytes(b"half a file")
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


def test_a_training_killed_five_times_gives_the_same_student_to_the_byte(undisturbed, files, tmp_path):
    stage, whole = undisturbed
    steps = sorted(random.Random(stage).sample(range(1, STEPS), 5))
    for number, step in enumerate(steps):
        ended = run(stage, files, tmp_path, step, while_saving=number == 2)
        assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL
        assert not (tmp_path / "student").exists()
    assert run(stage, files, tmp_path) == 0
    student = "student/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / student).read_bytes() == (whole / student).read_bytes()
    timed = ["seconds", "images_per_second"]
    resumed, history = (pd.read_csv(folder / "history.csv").drop(columns=timed) for folder in (tmp_path, whole))
    numbers = {"step", "loss", "generator_evaluations"}
    numbers |= {"discriminator_loss", "r1", "regression_loss", "gan_loss"} if stage == "gan" else set()
    assert set(history) == numbers
    pd.testing.assert_frame_equal(resumed, history)


def test_plain_diffusers_samples_what_sample_py_samples(undisturbed, tmp_path):
    _, folder = undisturbed
    pd.DataFrame({"caption": CAPTIONS}).to_parquet(tmp_path / "prompts.parquet")
    student = folder / "student"
    options = {"prompts": tmp_path / "prompts.parquet", "count": 3, "out": tmp_path / "drawn", "seed": 7}
    sample.main(sample.Arguments(model=str(student), **options))
    pipeline = DiffusionPipeline.from_pretrained(student, safety_checker=None)
    z = noise(noise_seeds(7, range(3)), (4, 8, 8))
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
    assert {name: count for name, count in result["evaluations"].items() if count} == counts
    grids = sorted(path.name for path in (folder / "samples").iterdir())
    assert grids == [f"{step:06d}.png" for step in range(2, STEPS + 1, 2)]  # ten at most
    shown = load_image(folder / "samples" / grids[-1])
    assert shown.shape == (2 * 66 + 2, 8 * 66 + 2, 3)
    teacher = load_teacher(files["teacher"])
    x = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half().float()
    with torch.no_grad():
        decoded = to_uint8(teacher.decode(x[:1]))[0].astype(int)
    assert abs(shown[2:66, 2:66] - decoded).max() <= 1  # the teacher's above
    first = Image.open(folder / "samples" / grids[0]).tobytes()
    assert first != Image.open(folder / "samples" / grids[-1]).tobytes()


def watched(monkeypatch, watch):
    """Call `watch` with the training before its first step, and keep every number of its history."""

    def started(training, *args, **kwargs):
        watch(training)
        return train(training, *args, **kwargs, log_every=1)

    monkeypatch.setattr(distillation, "train", started)


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_the_saved_student_is_the_average_of_its_weights(stage, files, tmp_path, monkeypatch):
    weights = []

    def watch(training):
        step, student = training.step, training.modules["student"]

        def recorded(number):
            numbers = step(number)
            weights.append({name: weight.clone() for name, weight in student.unet.state_dict().items()})
            return numbers

        training.step = recorded

    watched(monkeypatch, watch)
    main, options = arguments(stage, files, tmp_path, ema_decay=0.3, iterations=6)
    main(options)
    average = weights[0]
    for number, following in enumerate(weights[1:], 1):
        decay = min(0.3, (1 + number) / (10 + number))  # diffusers' rise to the decay
        average = {name: decay * average[name] + (1 - decay) * following[name] for name in average}
    saved = load_file(tmp_path / "student/unet/diffusion_pytorch_model.safetensors")
    torch.testing.assert_close(saved, average, rtol=1e-5, atol=1e-6)
    last = weights[-1]
    apart = [(saved[name] - last[name]).abs().max() for name in saved]
    assert sum(each > 1e-4 for each in apart) > 0.9 * len(apart)


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_every_step_and_sample_gets_its_own_transform(stage, files, tmp_path, monkeypatch):
    """The pairs' latents are all the same, so that only transforms tell them apart."""
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    same = files | {"pairs": pairs(tmp_path / "same", files["teacher"], x.repeat(16, 1, 1, 1))}

    def targets(seed):
        with pytest.MonkeyPatch.context() as patch:
            seen = compared(patch)
            options = {"seed": seed, "iterations": 3, "samples": None}
            main, given = arguments(stage, same, tmp_path / f"{len(list(tmp_path.iterdir()))}", **options)
            main(given)
        assert [x1.shape for _, x1 in seen] == [(4, 4, 8, 8)] * 3
        return torch.cat([x1 for _, x1 in seen])

    one, again, other = targets(3), targets(3), targets(4)
    assert len(torch.unique(one.flatten(1), dim=0)) == 12
    assert torch.equal(one, again)
    assert not any(torch.equal(row, another) for row in one for another in other)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_networks_compute_in_half_precision_and_keep_their_weights_in_single(
    stage, autocast, files, tmp_path, monkeypatch
):
    computed, kept = {}, {}

    def watch(training):
        for name, module in training.modules.items():

            def record(convolution, args, made, name=name):
                computed.setdefault(name, made.dtype)

            module.unet.conv_in.register_forward_hook(record)
            kept[name] = module

    watched(monkeypatch, watch)
    settings = {"autocast": autocast, "gradient_checkpointing": True, "iterations": 1, "r1": False}
    if stage == "regression":
        del settings["r1"]
    main, options = arguments(stage, files, tmp_path, **settings)
    main(options)
    networks = {"student"} | ({"discriminator"} if stage == "gan" else set())
    assert computed == dict.fromkeys(networks, torch.bfloat16 if autocast else torch.float32)
    for name in networks:
        assert {weight.dtype for weight in kept[name].parameters()} == {torch.float32}
    saved = load_file(tmp_path / "student/unet/diffusion_pytorch_model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in saved.values())


def test_latents_are_compared_as_they_are_stored(files, tmp_path, monkeypatch):
    """Rounded once, to the shard's float16, and not again by autocast."""
    seen = compared(monkeypatch)
    options = {"loss": "latent_lpips", "autocast": True, "iterations": 4, "samples": None}
    main, given = arguments("regression", files, tmp_path, **options)
    main(given)
    targets = torch.cat([x1 for _, x1 in seen])
    stored = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half().float()
    assert targets.dtype == torch.float32 and len(targets) == 16  # one epoch
    order = [next(i for i in range(16) if torch.equal(target, stored[i])) for target in targets]
    assert sorted(order) == list(range(16)) and order != list(range(16))


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_options_of_a_script_reach_the_training_and_the_loop(stage, files, tmp_path):
    def of(**changes):
        return built(*arguments(stage, files, tmp_path, **changes))

    plain = of()
    assert (plain.micro_batches, plain.gradient_checkpointing, plain.shard, plain.autocast) == (
        1,
        {False},
        False,
        False,
    )
    assert (plain.schedule.iterations, plain.schedule.warmup, plain.schedule.decay) == (STEPS, 2, "constant")
    assert (plain.batch_size, plain.ema_decay, plain.seeds) == (4, 0.9, {3})
    assert plain.loop["folder"] == tmp_path / "checkpoints"
    assert of(accumulation=2).micro_batches == 2
    assert of(gradient_checkpointing=True).gradient_checkpointing == {True}
    assert of(shard=True).shard
    assert of(autocast=True).autocast
    changed = of(warmup=5, iterations=9, ema_decay=0.4, seed=8, batch_size=8, learning_rate=3e-4)
    assert (changed.schedule.warmup, changed.schedule.iterations) == (5, 9)
    assert (changed.ema_decay, changed.seeds, changed.batch_size) == (0.4, {8}, 8)
    assert changed.learning_rates["student"] == 3e-4


@pytest.mark.parametrize("preset", ["b", "bg", "bgc", "bgco"])
def test_the_ensemble_is_the_preset_that_was_named(preset, files, tmp_path):
    training = built(*arguments("regression", files, tmp_path, ensemble=preset))
    assert loss_name(training, (4, 8, 8)) == f"e_latent_lpips {preset}"


def test_micro_batches_are_small_and_a_step_has_all_of_them(files, tmp_path, monkeypatch):
    sizes = []

    def watch(training):
        training.modules["student"].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))

    watched(monkeypatch, watch)
    options = {"accumulation": 4, "iterations": 2, "samples": None}
    main, given = arguments("regression", files, tmp_path, **options)
    main(given)
    assert sizes == [1] * 8


@pytest.mark.parametrize("change", ["learning_rate", "ensemble", "loss", "batch_size"])
def test_a_checkpoint_of_other_settings_is_refused(undisturbed, files, change):
    stage, folder = undisturbed
    value = {"learning_rate": 2e-3, "ensemble": "bg", "loss": "latent_lpips", "batch_size": 2}[change]
    main, options = arguments(stage, files, folder, **{change: value})
    with pytest.raises(UserError, match=f"{change} was .* and is {value!r}.*delete"):
        main(options)


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_mistakes_are_one_line_errors(stage, files, tmp_path):
    def complaint(**changes):
        main, options = arguments(stage, files | changes, tmp_path)
        with pytest.raises(UserError) as error:
            main(options)
        assert "\n" not in str(error.value)
        return str(error.value)

    pairs(tmp_path / "wide", files["teacher"], torch.randn(4, 16, 8, 8))
    pairs(tmp_path / "other", "others/teacher", torch.randn(4, 4, 8, 8))
    assert "16 × 8 × 8, the student makes 4 × 8 × 8: use pairs of its own teacher" in complaint(pairs=tmp_path / "wide")
    assert "made by the teacher 'others/teacher', not by" in complaint(pairs=tmp_path / "other")
    assert "there are no pairs in" in complaint(pairs=tmp_path / "nowhere")
    assert "a batch of 6 does not divide among 1 process with 4 micro-batches" in complaint(
        batch_size=6, accumulation=4
    )
    if stage == "gan":
        assert "no student can start from" in complaint(init=tmp_path / "no-run" / "student")
