"""Both stages by their scripts: the options reach the training, and its steps compute what they should."""

import pytest
import torch
from built import built, compared, loss_name, pairs
from safetensors.torch import load_file
from training.stages import STEPS, arguments

from diffusion2gan.errors import UserError
from diffusion2gan.training import distillation
from diffusion2gan.training.loop import train


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
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    same = files | {"pairs": pairs(tmp_path / "same", files["teacher"], x.repeat(16, 1, 1, 1))}

    def targets(seed):
        with pytest.MonkeyPatch.context() as patch:
            seen = compared(patch)
            options = {"seed": seed, "iterations": 3, "samples": None}
            main, given = arguments(stage, same, tmp_path / f"{len(list(tmp_path.iterdir()))}", **options)
            main(given)
        assert [x1.shape for _, x1 in seen] == [(4, 4, 16, 16)] * 3
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
    stored = torch.randn(16, 4, 16, 16, generator=torch.Generator().manual_seed(0)).half().float()
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
    changed = of(warmup=5, decay="linear", iterations=9, ema_decay=0.4, seed=8, batch_size=8, learning_rate=3e-4)
    assert (changed.schedule.warmup, changed.schedule.decay, changed.schedule.iterations) == (5, "linear", 9)
    assert (changed.ema_decay, changed.seeds, changed.batch_size) == (0.4, {8}, 8)
    assert changed.learning_rates["student"] == 3e-4


@pytest.mark.parametrize("preset", ["b", "bg", "bgc", "bgco"])
def test_the_ensemble_is_the_preset_that_was_named(preset, files, tmp_path):
    training = built(*arguments("regression", files, tmp_path, ensemble=preset))
    assert loss_name(training, (4, 16, 16)) == f"e_latent_lpips {preset}"


def test_micro_batches_are_small_and_a_step_has_all_of_them(files, tmp_path, monkeypatch):
    sizes = []

    def watch(training):
        training.modules["student"].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))

    watched(monkeypatch, watch)
    options = {"accumulation": 4, "iterations": 2, "samples": None}
    main, given = arguments("regression", files, tmp_path, **options)
    main(given)
    assert sizes == [1] * 8


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_mistakes_are_one_line_errors(stage, files, tmp_path):
    def complaint(**changes):
        main, options = arguments(stage, files | changes, tmp_path)
        with pytest.raises(UserError) as error:
            main(options)
        assert "\n" not in str(error.value)
        return str(error.value)

    pairs(tmp_path / "wide", files["teacher"], torch.randn(4, 16, 16, 16))
    pairs(tmp_path / "other", "others/teacher", torch.randn(4, 4, 16, 16))
    assert "16 × 16 × 16, the student makes 4 × 16 × 16: use pairs of its own teacher" in complaint(
        pairs=tmp_path / "wide"
    )
    assert "made by the teacher 'others/teacher', not by" in complaint(pairs=tmp_path / "other")
    assert "there are no pairs in" in complaint(pairs=tmp_path / "nowhere")
    assert "a batch of 6 does not divide among 1 process with 4 micro-batches" in complaint(
        batch_size=6, accumulation=4
    )
    if stage == "gan":
        assert "student' is neither a folder nor a pipeline that" in complaint(init=tmp_path / "no-run" / "student")


@pytest.mark.parametrize("stage", ["regression", "gan"])
def test_a_kept_step_is_exported_as_the_student_it_was(stage, files, tmp_path):
    main, options = arguments(stage, files, tmp_path, iterations=3, checkpoint_minutes=1e-9)
    main(options)
    weights, history = "unet/diffusion_pytorch_model.safetensors", (tmp_path / "history.csv").read_bytes()
    for step in (2, 3):
        main(options.model_copy(update={"export_step": step, "out": tmp_path / f"student@{step}"}))
    last, before = (load_file(tmp_path / f"student@{step}" / weights) for step in (3, 2))
    assert (tmp_path / "student@3" / weights).read_bytes() == (tmp_path / "student" / weights).read_bytes()
    assert before.keys() == last.keys() and any(not before[name].equal(last[name]) for name in last)
    assert (tmp_path / "history.csv").read_bytes() == history
    with pytest.raises(UserError, match="keeps no checkpoint of step 1: choose one of 2, 3"):
        main(options.model_copy(update={"export_step": 1}))
