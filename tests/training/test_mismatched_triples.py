"""What the discriminator learns to call real and fake: pairs, generated samples, mismatched triples."""

import copy

import pytest
import torch
from training.small_gan import assert_asked, called_fake, called_real, fractions, gan, triples, watched

from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.training import adversarial


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
