"""What holds for the training of every method."""

import importlib
import math

import pytest
import torch
from forked import in_processes
from methods.made import METHODS, gradients, training

from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.methods.denoising import random_noise
from diffusion2gan.settings import Fitting
from diffusion2gan.training import distributed
from diffusion2gan.training.loop import Schedule, train

NETWORKS = {  # by method: the networks that are evaluated, each with the name of its count
    "dmd": {"teacher": "teacher.unet", "student": "modules.student", "fake": "modules.fake"},
    # D's passes end before the U-Net does
    "dmd2": {
        "teacher": "teacher.unet", "student": "modules.student", "fake": "modules.fake.unet",
        "discriminator": "modules.fake.head",
    },
    "gigagan-from-scratch": {"student": "modules.student", "discriminator": "modules.discriminator"},
    "progressive": {"teacher": "previous", "student": "modules.student"},
    "lcm": {"teacher": "teacher.unet", "student": "modules.student", "target": "target"},
    "add": {"teacher": "teacher.unet", "student": "modules.student"},
    "reflow": {"student": "modules.student"},
    "instaflow": {"teacher": "flow", "student": "modules.student"},
    "lightning": {"teacher": "previous", "student": "modules.student", "discriminator": "modules.discriminator"},
    "ufogen": {"student": "modules.student", "discriminator": "modules.discriminator"},
}  # fmt: skip


def network(made, path):
    """The network at a path of attributes and keys."""
    for name in path.split("."):
        made = made[name] if isinstance(made, dict) else getattr(made, name)
    return made


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("guidance", [{}, {"guidance": 1}])
def test_the_teacher_stays_and_every_evaluation_is_counted(method, guidance, small_teacher_folder):
    if guidance and "guidance" not in METHODS[method][1].model_fields:
        pytest.skip("this method has no guidance")
    made = training(method, small_teacher_folder, **guidance)
    frozen = network(made, NETWORKS[method].get("teacher", "teacher.unet"))
    before = {name: weight.clone() for name, weight in frozen.state_dict().items()}
    counts = {}

    def count(name, latents, output):
        output = output[0] if isinstance(output, list) else getattr(output, "sample", output)
        counts[f"{name}_forward"] = counts.get(f"{name}_forward", 0) + len(latents)
        if output.requires_grad:
            output.register_hook(lambda _: counts.update({back: counts.get(back, 0) + len(latents)}))
        back = f"{name}_backward"

    for name, path in NETWORKS[method].items():
        network(made, path).register_forward_hook(lambda _, args, output, name=name: count(name, args[0], output))
    made.step(0)
    torch.testing.assert_close(dict(frozen.state_dict()), before, rtol=0, atol=0)
    if method == "dmd2":  # two passes to the bottleneck count as one
        counts |= {name: number / 2 for name, number in counts.items() if name.startswith("discriminator")}
    assert counts == {name: number for name, number in vars(made.evaluations).items() if number}


@pytest.mark.parametrize("method", METHODS)
def test_two_micro_batches_make_the_step_of_the_whole_batch(method, small_teacher_folder):
    whole, halves = (training(method, small_teacher_folder, Fitting(accumulation=count)) for count in (1, 2))
    kept = [{name: gradients(made, name) for name in made.optimizers} for made in (whole, halves)]
    numbers = []
    for made in (whole, halves):
        torch.manual_seed(0)  # as the loop does
        numbers.append(made.step(0))
    assert numbers[0].keys() == numbers[1].keys()
    for name in numbers[0].keys() - {"images_per_second"}:
        assert numbers[1][name] == pytest.approx(numbers[0][name]), name
    for name in kept[0]:
        for gradient, other in zip(kept[0][name], kept[1][name], strict=True):
            torch.testing.assert_close(other, gradient, rtol=1e-6, atol=1e-6 * gradient.abs().max().item() + 1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_each_draw_of_each_step_is_another(method, small_teacher_folder, monkeypatch):
    """Whatever is random in two steps, by the networks' inputs: no noise appears twice."""
    modules = [importlib.import_module(kind.__module__) for kind in METHODS[method][0].__mro__]
    if not any(hasattr(module, "random_noise") for module in modules):
        pytest.skip("this method has the noise of its pairs alone")
    drawn = []

    def remember(batch, number):
        drawn.append((batch.part.seed, number, random_noise(batch, number)))
        return drawn[-1][-1]

    for module in modules:
        if hasattr(module, "random_noise"):
            monkeypatch.setattr(module, "random_noise", remember)
    made = training(method, small_teacher_folder)
    made.step(0)
    made.step(1)
    distinct = {(seed, number): noise for seed, number, noise in drawn}
    assert len({seed for seed, _ in distinct}) == 2 * getattr(made.settings, "fake_updates", 1)
    values = torch.cat([noise.flatten() for noise in distinct.values()])
    assert len(values.unique()) > 0.999 * len(values)  # numbers in single precision may meet by chance


@pytest.mark.parametrize("method", METHODS)
def test_a_step_with_sdxl_in_bfloat16_with_a_teacher_of_epsilon(method, xl_folder):
    """The networks learn, and every number is finite."""
    made = training(method, xl_folder, double=False, autocast=True)
    for each in vars(made).values():
        if isinstance(each, Generator):
            each.prediction_type = "epsilon"
    before = {name: [weight.clone() for weight in made.modules[name].parameters()] for name in made.optimizers}
    numbers = made.step(0)
    assert all(math.isfinite(number) for number in numbers.values())
    for name, weights in before.items():
        changed = [not torch.equal(*pair) for pair in zip(weights, made.modules[name].parameters(), strict=True)]
        assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_training_ends_in_the_same_bits(method, small_teacher_folder, tmp_path):
    def run(folder, cut=False):
        made = training(method, small_teacher_folder)
        step = made.step

        def until_cut(number):
            if cut and number == 1:
                raise KeyboardInterrupt
            return step(number)

        made.step = until_cut
        train(made, Schedule(2), folder, {}, seed=0, ema_decay=0.5, checkpoint_minutes=0 if cut else 15)
        return {name: dict(module.state_dict()) for name, module in made.modules.items()}

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", cut=True)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["step-00000001"]
    torch.testing.assert_close(run(tmp_path / "cut"), whole, rtol=0, atol=0)


# those with more than a student and a D that are wrapped alike: a D that stays whole, a head, a frozen copy, both
@pytest.mark.parametrize("method", ["add", "dmd2", "instaflow", "lightning"])
def test_two_processes_with_sharded_networks_make_the_step_of_one(method, small_teacher_folder, tmp_path):
    def run():
        made = training(method, small_teacher_folder, Fitting(shard=True))
        made.step(0)
        for module in made.modules.values():
            distributed.unshard(module)
        if distributed.is_main():
            torch.save({name: module.state_dict() for name, module in made.modules.items()}, tmp_path / "sharded.pt")

    whole = training(method, small_teacher_folder)
    whole.step(0)
    in_processes(run, gpus=2)
    sharded = torch.load(tmp_path / "sharded.pt")
    for name, module in whole.modules.items():
        for weight, other in zip(module.state_dict().values(), sharded[name].values(), strict=True):
            torch.testing.assert_close(other, weight, rtol=0, atol=1e-6)  # Adam's first step is the learning rate, 1e-4


@pytest.mark.parametrize("method", ["dmd2", "gigagan-from-scratch", "lightning", "ufogen"])
def test_a_method_with_a_discriminator_takes_a_teacher_without_a_middle_block(method, bk_folder):
    losses = training(method, bk_folder).step(0)
    assert all(math.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("method", ["lcm"])
def test_a_method_that_keeps_whole_networks_is_not_sharded(method, small_teacher_folder):
    with pytest.raises(UserError, match="leave out --shard"):
        training(method, small_teacher_folder, Fitting(shard=True))
