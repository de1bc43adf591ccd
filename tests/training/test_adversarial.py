"""Two steps of adversarial training on the random toy pipeline: what learns, what stays frozen, what is counted."""

import math
import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from built import CAPTIONS
from training.small_gan import SETTINGS, common, gan, squared

from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.losses import BatchPart
from diffusion2gan.seeds import mix
from diffusion2gan.settings import Fitting, GANSettings, RegressionSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import adversarial, distributed
from diffusion2gan.training.adversarial import AdversarialTraining, discriminator_of
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.text_cache import TextEmbeddings


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(("kind", "autocast"), [("diffusion", False), ("gigagan", False), ("diffusion", True)])
def test_two_steps_teach_both_and_leave_the_teacher_alone(teacher, kind, autocast):
    training = gan(teacher, kind, autocast=autocast)
    frozen = {name: snapshot(module) for name, module in vars(teacher).items() if isinstance(module, torch.nn.Module)}
    student, judge = snapshot(training.student), snapshot(training.discriminator)
    numbers = []
    for step in range(2):
        torch.manual_seed(step)
        numbers.append(training.step(step))
    assert all(math.isfinite(value) for each in numbers for value in each.values())
    assert changed(training.student, student) and changed(training.discriminator, judge)
    assert frozen.keys() == {"unet", "vae", "text_encoder"}
    for name, before in frozen.items():
        assert not changed(getattr(teacher, name), before), name
    assert all(weight.requires_grad for weight in training.discriminator.parameters())
    if kind == "diffusion":
        assert ["r1" in each for each in numbers] == [True, False]  # every 16 steps, from the first
    assert [each["generator_evaluations"] for each in numbers] == [8, 16]  # for D, and again for G
    assert all(each["images_per_second"] > 0 for each in numbers)
    assert all(0 <= each[f"{half}_accuracy"] <= 1 for each in numbers for half in ("real", "fake"))
    assert all(each[f"{name}_gradient_norm"] > 0 for each in numbers for name in training.optimizers)


def test_the_discriminator_s_accuracy_is_the_mean_over_micro_batches(teacher, monkeypatch):
    shares = iter([0.25, 0.75])
    monkeypatch.setattr(adversarial, "accuracy", lambda real, fake: {"fake_accuracy": torch.tensor(next(shares))})
    assert gan(teacher, fitting=Fitting(accumulation=2)).step(1)["fake_accuracy"] == 0.5


@pytest.mark.parametrize("accumulation", [1, 2])
def test_no_graph_of_the_generator_is_kept_while_the_discriminator_trains(teacher, accumulation):
    training = gan(teacher, fitting=Fitting(accumulation=accumulation))
    made, graphs = [], []

    def count(*_):
        graphs.append(sum(latents() is not None and latents().requires_grad for latents in made))

    training.modules["student"].register_forward_hook(lambda module, args, x: made.append(weakref.ref(x)))
    training.optimizers["discriminator"].register_step_pre_hook(count)
    training.optimizers["student"].register_step_pre_hook(count)
    training.step(1)
    assert len(made) == 2 * accumulation and graphs[0] == 0


@pytest.mark.parametrize("kind", ["diffusion", "gigagan"])
def test_every_evaluation_of_a_step_without_r1_is_counted(teacher, kind):
    training = gan(teacher, kind)
    counts = {f"{network}_{way}": 0 for network in ("student", "discriminator") for way in ("forward", "backward")}

    def count(network, _, output):
        *_, output = output if isinstance(output, list) else [output]
        counts[f"{network}_forward"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: counts.update({key: counts[key] + len(gradient)}))
        key = f"{network}_backward"

    for name, module in training.modules.items():
        module.register_forward_hook(lambda _, args, output, name=name: count(name, args, output))
    training.step(1)
    assert counts == {name: getattr(training.evaluations, name) for name in counts}


def test_losses_of_a_step_are_those_of_the_paper(teacher):
    """λ_GAN joins Eq. 4 and 6; D scored the generated latents before G's update."""
    training = gan(teacher, mix_and_match=False, r1=False, lambda_gan=0.25)
    (batch,) = training.batches(0)
    with torch.no_grad():
        generated = training.student(batch.z, **batch.conditions)
        real = training.discriminator(batch.x, batch.z, **batch.conditions)
        fake = training.discriminator(generated, batch.z, **batch.conditions)
    numbers = training.step(0)
    judged = sum(-r.sigmoid().log().mean() - (1 - f.sigmoid()).log().mean() for r, f in zip(real, fake, strict=True))
    assert numbers["discriminator_loss"] == pytest.approx(judged.item() / len(real), rel=1e-4)
    assert numbers["regression_loss"] == pytest.approx(squared(generated, batch.x).item(), rel=1e-5)
    assert numbers["loss"] == pytest.approx(numbers["regression_loss"] + 0.25 * numbers["gan_loss"], rel=1e-6)
    with torch.no_grad():  # G is scored by D after D's update
        logits = training.discriminator(generated, batch.z, **batch.conditions)
    fooled = sum(-each.sigmoid().log().mean() for each in logits).item() / len(logits)
    assert numbers["gan_loss"] == pytest.approx(fooled, rel=1e-4)


def test_without_a_gan_loss_the_student_learns_as_in_regression(teacher):
    plain = RegressionTraining(**common(teacher), settings=RegressionSettings(**SETTINGS))
    with_gan = gan(teacher, lambda_gan=0.0)
    for step in range(2):
        assert plain.step(step)["loss"] == pytest.approx(with_gan.step(step)["loss"], rel=1e-5)
    torch.testing.assert_close(plain.student.state_dict(), with_gan.student.state_dict(), rtol=1e-5, atol=1e-7)


def test_embeddings_are_the_encoder_s_with_and_without_a_table(teacher, monkeypatch):
    asked = [CAPTIONS[2], CAPTIONS[0], CAPTIONS[2]]
    table = TextEmbeddings(teacher, CAPTIONS)
    torch.testing.assert_close(table(asked), teacher.encode_text(asked))
    calls = []
    encode = teacher.encode_text
    monkeypatch.setattr(teacher, "encode_text", lambda captions: calls.append(captions) or encode(captions))
    table(asked)
    assert calls == []
    monkeypatch.setattr(TextEmbeddings, "most_in_table", 2)
    torch.testing.assert_close(TextEmbeddings(teacher, CAPTIONS)(asked), encode(asked))
    assert calls == [asked]


def test_a_student_of_sdxl_trains_with_the_conditions_by_name(xl_folder):
    training = gan(Teacher(str(xl_folder)))
    student, judge = snapshot(training.student), snapshot(training.discriminator)
    assert all(math.isfinite(value) for value in training.step(0).values())
    assert changed(training.student, student) and changed(training.discriminator, judge)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_regression_loss_is_told_which_rows_it_compares(teacher, accumulation):
    parts = []

    def loss(x0, x1, part):
        assert x0.requires_grad and not x1.requires_grad  # G(z, c), then its target
        parts.append(part)
        return squared(x0, x1)

    discriminator = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=False, multi_scale=False)
    given = common(teacher) | {"loss": loss, "discriminator": discriminator}
    settings, fitting = GANSettings(**SETTINGS | {"seed": 5}), Fitting(accumulation=accumulation)
    AdversarialTraining(**given, settings=settings, fitting=fitting).step(3)
    rows = [slice(0, 4)] if accumulation == 1 else [slice(0, 2), slice(2, 4)]
    assert parts == [BatchPart(each, 4, mix(5, 3, 1)) for each in rows]


@pytest.fixture
def double():
    """Makes new tensors float64, in which the order of a sum changes nothing that a test sees."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", ["diffusion", "gigagan"])
def test_two_micro_batches_make_the_step_of_the_whole_batch(teacher_folder, double, kind):
    teacher, steps = Teacher(teacher_folder, "cpu", torch.float64), []
    for accumulation in (1, 2):
        training, stepped = gan(teacher, kind, fitting=Fitting(accumulation=accumulation)), []
        for network in training.modules.values():
            assert all(weight.dtype == torch.float64 for weight in network.parameters())
        for optimizer in training.optimizers.values():
            optimizer.register_step_pre_hook(
                lambda each, *_, kept=stepped: kept.extend(w.grad.clone() for w in each.param_groups[0]["params"])
            )
        torch.manual_seed(0)
        numbers = training.step(0)
        steps.append((numbers, stepped))
    (whole, gradients), (halves, others) = steps
    for name in ("loss", "regression_loss", "gan_loss", "discriminator_loss"):
        assert halves[name] == pytest.approx(whole[name], rel=1e-6), name  # logits are float32 in the loss
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-6 * gradient.abs().max().item() + 1e-12)


def test_gradients_are_averaged_over_the_processes_after_the_last_micro_batch(teacher, monkeypatch):
    training, asked = gan(teacher, fitting=Fitting(accumulation=4)), []
    monkeypatch.setattr(distributed, "no_sync", lambda *given: asked.append(given) or nullcontext())
    training.step(0)
    kept = [True, True, True, False]
    assert asked == [(net, keep) for net in (training.discriminator, training.student) for keep in kept]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("shard", [False, True])
def test_both_networks_are_wrapped_as_the_options_say(teacher, monkeypatch, shard, autocast):
    asked = []

    def wrap(module, shard, half):
        asked.append((type(module), shard, half))
        return module

    def replicated(module, shard):
        asked.append(("for R1", type(module), shard))
        return module

    monkeypatch.setattr(distributed, "wrap", wrap)
    monkeypatch.setattr(distributed, "replicated", replicated)
    gan(teacher, fitting=Fitting(shard=shard), autocast=autocast)
    judge = DiffusionDiscriminator  # for R1 before it is sharded
    assert asked == [(Generator, shard, autocast), ("for R1", judge, shard), (judge, shard, autocast)]


def test_no_weight_of_d_gets_a_gradient_while_g_learns(teacher):
    training, needed = gan(teacher), []
    training.optimizers["student"].register_step_pre_hook(
        lambda *_: needed.extend(weight.requires_grad for weight in training.modules["discriminator"].parameters())
    )
    training.step(0)
    assert needed and not any(needed)


@pytest.mark.parametrize(("channels", "width"), [((320, 640), 128), ((32, 64), 16), ((258, 1), 128), ((254, 1), 127)])
def test_gigagan_is_half_as_wide_as_the_teacher_and_at_most_128(channels, width):
    config = SimpleNamespace(block_out_channels=channels, cross_attention_dim=24)
    stub = SimpleNamespace(unet=SimpleNamespace(config=config), latent_shape=(4, 8, 8))
    with torch.device("meta"):
        discriminator = discriminator_of(GANSettings(**SETTINGS, discriminator="gigagan"), stub)
    assert [scale.enter.out_channels for scale in discriminator.scales] == [width, 2 * width]
    assert discriminator.scales[0].enter.in_channels == 4 and discriminator.text.project.in_features == 24
