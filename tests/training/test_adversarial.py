"""Two steps of adversarial training on the random toy pipeline: what learns, what stays frozen, what is counted."""

import copy
import inspect
import math
import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from built import CAPTIONS, InMemory
from torch.nn import functional as F

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.losses import Place
from diffusion2gan.seeds import batch_indices, mix
from diffusion2gan.settings import Fitting, GANSettings, RegressionSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import adversarial, distributed
from diffusion2gan.training.adversarial import AdversarialTraining, discriminator_of
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.text_cache import TextEmbeddings


def squared(x0, x1, place=None):
    return (x0 - x1).square().mean()


@pytest.fixture(scope="module")
def teacher(small_teacher_folder):
    return Teacher(str(small_teacher_folder))


SETTINGS = {"loss": "mse", "iterations": 2, "batch_size": 4, "learning_rate": 1e-4, "seed": 0}
INGREDIENTS = ("z_conditioning", "multi_scale", "r1", "mix_and_match")


def common(teacher):
    torch.manual_seed(0)
    student = Generator.from_teacher(teacher.path)
    return {"student": student, "teacher": teacher, "pairs": InMemory(), "loss": squared}


def gan(teacher, kind="diffusion", fitting=None, **changes):
    given = common(teacher)
    settings = {"d_learning_rate": 1e-4, "lambda_gan": 0.5, "discriminator": kind}
    if kind == "diffusion":
        discriminator = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=True, multi_scale=True)
        settings |= dict.fromkeys(INGREDIENTS, True) | {"r1_gamma": 0.01}
    else:
        discriminator = GigaGANDiscriminator(teacher.latent_shape, 64, width=16, max_width=32)
    settings = GANSettings(**SETTINGS | settings | changes)
    return AdversarialTraining(**given, discriminator=discriminator, settings=settings, fitting=fitting)


def fractions(latent=0.0, text=0.0, noise=0.0):
    """Settings of mix-and-match with these fractions."""
    return {"mix_fraction_latent": latent, "mix_fraction_text": text, "mix_fraction_noise": noise}


@dataclass
class Verdict:
    """The inputs of one call of D, and its logits."""

    x: torch.Tensor
    z: torch.Tensor
    text: torch.Tensor
    logits: list[torch.Tensor]


def watched(training, step):
    """All calls of D in a step, in order, the latents that G made first, and the step's numbers."""
    discriminator, verdicts, made = training.modules["discriminator"], [], []

    def record(module, args, kwargs, logits):
        asked = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        x, z, text = (asked[name].detach().clone() for name in ("x", "z", "text_embeddings"))
        verdicts.append(Verdict(x, z, text, [head.detach().clone() for head in logits]))

    hooks = [
        discriminator.register_forward_hook(record, with_kwargs=True),
        training.modules["student"].register_forward_hook(lambda module, args, x: made.append(x.detach().clone())),
    ]
    torch.manual_seed(step)
    numbers = training.step(step)
    for hook in hooks:
        hook.remove()
    return verdicts, made[0], numbers


def triples(teacher, step):
    """Latents, noise and text embeddings of a step's pairs, read without the training."""
    pairs = InMemory().batch(batch_indices(step, 4, 8, seed=0))
    return pairs.x, pairs.z, teacher.encode_text(pairs.captions)["text_embeddings"]


def called_real(logits):
    return sum(-F.logsigmoid(head).mean() for head in logits) / len(logits)


def called_fake(logits):
    return sum(-F.logsigmoid(-head).mean() for head in logits) / len(logits)


def assert_asked(verdict, x, z, text):
    torch.testing.assert_close((verdict.x, verdict.z, verdict.text), (x, z, text))


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
    assert training.evaluations.student_forward == 4 * 2 and training.evaluations.student_backward == 4


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


def test_r1_and_mismatched_triples_reach_the_discriminator_s_gradient(teacher):
    training = gan(teacher, r1_gamma=0.1, **fractions(text=0.5))
    before, stepped = copy.deepcopy(training.modules["discriminator"]), []
    training.optimizers["discriminator"].register_step_pre_hook(
        lambda optimizer, *_: stepped.append([weight.grad.clone() for weight in optimizer.param_groups[0]["params"]])
    )
    verdicts, _, numbers = watched(training, 0)
    x, z, text = triples(teacher, 0)
    fake = next(each for each in verdicts if not torch.equal(each.text, text) and len(each.x) == 4)
    assert any(torch.equal(row, own) for row, own in zip(fake.x, x, strict=True))  # mismatched
    penalty = single_sample_r1(before, x, z, text, gamma=0.1, every=16)
    weights = list(before.parameters())
    r1 = torch.autograd.grad(penalty, weights, allow_unused=True, materialize_grads=True)
    loss = called_real(before(x, z, text)) + called_fake(before(fake.x, fake.z, fake.text))
    gradients = [one + other for one, other in zip(r1, torch.autograd.grad(loss, weights), strict=True)]
    norm, share = (torch.stack([each.norm() for each in these]).norm() for these in (gradients, r1))
    assert share > 0.1 * norm  # R1 would be missed
    (ours,) = stepped
    for got, wanted in zip(ours, gradients, strict=True):
        torch.testing.assert_close(got, wanted / max(1.0, norm.item()), rtol=1e-3, atol=1e-5)
    assert numbers["r1"] == pytest.approx(penalty.item(), rel=1e-4)
    assert numbers["discriminator_loss"] == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize("kind", ["latent", "text", "noise"])
def test_mismatched_triples_are_target_latents_with_one_part_from_another_pair(teacher, kind):
    """D's loss counts them as fake."""
    (real, fake, fooled), generated, numbers = watched(gan(teacher, r1=False, **fractions(**{kind: 1.0})), 1)
    x, z, text = triples(teacher, 1)
    assert_asked(real, x, z, text)
    assert_asked(fooled, generated, z, text)
    own, got = {"latent": x, "noise": z, "text": text}, {"latent": fake.x, "noise": fake.z, "text": fake.text}
    for row in range(4):
        for name in own:
            found = [other for other in range(4) if torch.allclose(got[name][row], own[name][other], atol=1e-6)]
            assert found and (row in found) == (name != kind)
    wanted = called_real(real.logits) + called_fake(fake.logits)
    assert numbers["discriminator_loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_the_rest_of_the_fake_batch_is_generated(teacher):
    training, mixed, rest = gan(teacher, r1=False, **fractions(0.25, 0.25, 0.25)), 0, 0
    for step in range(4):
        (real, fake, fooled), generated, numbers = watched(training, step)
        x, z, text = triples(teacher, step)
        assert_asked(fooled, generated, z, text)
        for row in range(4):
            same = [torch.allclose(fake.z[row], z[row]), torch.allclose(fake.text[row], text[row], atol=1e-6)]
            if torch.equal(fake.x[row], generated[row]):
                assert all(same)
                rest += 1
            else:
                assert sum([*same, torch.equal(fake.x[row], x[row])]) == 2
                mixed += 1
        wanted = called_real(real.logits) + called_fake(fake.logits)
        assert numbers["discriminator_loss"] == pytest.approx(wanted.item(), rel=1e-5)
    assert mixed > 4 and rest > 1


def test_the_matching_aware_loss_uses_the_text_of_another_caption(teacher):
    (real, fake, wrong_real, wrong_fake, fooled), generated, numbers = watched(gan(teacher, "gigagan"), 1)
    x, z, text = triples(teacher, 1)
    assert_asked(real, x, z, text)
    assert_asked(fake, generated, z, text)
    assert_asked(fooled, generated, z, text)
    assert_asked(wrong_real, x, z, wrong_real.text)
    assert_asked(wrong_fake, generated, z, wrong_real.text)
    for row in range(4):
        found = [other for other in range(4) if torch.allclose(wrong_real.text[row], text[other], atol=1e-6)]
        assert found and row not in found
    wanted = called_real(real.logits) + sum(called_fake(each.logits) for each in (fake, wrong_real, wrong_fake))
    assert numbers["discriminator_loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_r1_is_given_the_pairs_of_the_step_of_which_it_takes_the_first(teacher, monkeypatch):
    seen = []

    def r1(judge, x, z, **settings):
        seen.append((x, z, settings))
        return single_sample_r1(judge, x, z, **settings)

    monkeypatch.setattr(adversarial, "single_sample_r1", r1)
    training = gan(teacher, r1_every=3)
    numbers = [training.step(step) for step in range(4)]
    assert ["r1" in each for each in numbers] == [True, False, False, True]
    (batch,) = training.batches(3)
    x, z, settings = seen[1]
    assert torch.equal(x, batch.x) and torch.equal(z, batch.z)
    assert torch.equal(settings["text_embeddings"], batch.conditions["text_embeddings"])
    assert (settings["gamma"], settings["every"]) == (0.01, 3)


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
    places = []

    def loss(x0, x1, place):
        assert x0.requires_grad and not x1.requires_grad  # G(z, c), then its target
        places.append(place)
        return squared(x0, x1)

    discriminator = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=False, multi_scale=False)
    given = common(teacher) | {"loss": loss, "discriminator": discriminator}
    settings, fitting = GANSettings(**SETTINGS | {"seed": 5}), Fitting(accumulation=accumulation)
    AdversarialTraining(**given, settings=settings, fitting=fitting).step(3)
    rows = [slice(0, 4)] if accumulation == 1 else [slice(0, 2), slice(2, 4)]
    assert places == [Place(each, 4, mix(5, 3, 1)) for each in rows]


@pytest.mark.parametrize("kind", ["diffusion", "gigagan"])
def test_two_micro_batches_make_the_step_of_the_whole_batch(teacher, kind):
    steps = []
    for accumulation in (1, 2):
        training, stepped = gan(teacher, kind, fitting=Fitting(accumulation=accumulation)), []
        for optimizer in training.optimizers.values():
            optimizer.register_step_pre_hook(
                lambda each, *_, kept=stepped: kept.extend(w.grad.clone() for w in each.param_groups[0]["params"])
            )
        torch.manual_seed(0)
        numbers = training.step(0)
        steps.append((numbers, stepped))
    (whole, gradients), (halves, others) = steps
    for name in ("loss", "regression_loss", "gan_loss", "discriminator_loss"):
        assert halves[name] == pytest.approx(whole[name], rel=1e-3), name
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, gradient, rtol=1e-2, atol=1e-4 * gradient.abs().max().item() + 1e-6)


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
