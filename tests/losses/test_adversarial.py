"""The GAN loss against its definition with probabilities, Eq. 5 and 6."""

import math

import pytest
import torch

from diffusion2gan.losses.adversarial import accuracy, discriminator_loss, generator_loss, rejection_loss


def probability(logit):
    return 1 / (1 + math.exp(-logit))


def mean(heads, term):
    """Mean over samples and locations of each head, then over heads, with loops."""
    return sum(sum(term(v) for v in head.flatten().tolist()) / head.numel() for head in heads) / len(heads)


@pytest.fixture
def heads():
    torch.manual_seed(0)
    real = [torch.randn(3, 1, 2, 2), torch.randn(3, 1, 5, 4)]
    return real, [torch.randn_like(head) for head in real]


def test_losses_are_the_logarithms_of_eq_5_and_6(heads):
    real, fake = heads
    rejected = mean(fake, lambda v: -math.log(1 - probability(v)))
    accepted = mean(real, lambda v: -math.log(probability(v)))
    assert generator_loss(fake).item() == pytest.approx(mean(fake, lambda v: -math.log(probability(v))), rel=1e-5)
    assert rejection_loss(fake).item() == pytest.approx(rejected, rel=1e-5)
    assert discriminator_loss(real, fake).item() == pytest.approx(accepted + rejected, rel=1e-5)


def test_each_head_has_the_same_weight_whatever_its_size():
    small, large = torch.zeros(2, 1, 1, 1, requires_grad=True), torch.zeros(2, 1, 8, 8, requires_grad=True)
    generator_loss([small, large]).backward()
    assert small.grad.sum().item() == pytest.approx(large.grad.sum().item())
    assert small.grad.sum().item() == pytest.approx(-0.25)  # half of -σ(0)


def test_accuracy_is_the_share_of_right_signs_in_each_head(heads):
    real, fake = heads
    found = accuracy(real, fake)
    assert found["real_accuracy"].item() == pytest.approx(mean(real, lambda v: float(v > 0)))
    assert found["fake_accuracy"].item() == pytest.approx(mean(fake, lambda v: float(v < 0)))
    assert found["real_accuracy"] != found["fake_accuracy"]
    undecided = [torch.zeros(2, 1, 1, 1)]
    assert not any(accuracy(undecided, undecided).values())


def test_confident_logits_stay_finite():
    extreme = [torch.tensor([[[[1e4, -1e4]]]], dtype=torch.bfloat16, requires_grad=True)]
    loss = generator_loss(extreme) + discriminator_loss(extreme, extreme)
    loss.backward()
    assert math.isfinite(loss.item()) and loss.dtype == torch.float32
    assert extreme[0].grad.isfinite().all()
