"""Single-sample R1 against its closed form and against finite differences of itself."""

from copy import deepcopy

import pytest
import torch

from diffusion2gan.discriminators import r1
from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.toy import networks as toy


class Quadratic(torch.nn.Module):
    """Two heads, a/2 x² + b z at each location, and c x at each location of the first channel."""

    def __init__(self):
        super().__init__()
        self.a, self.c = torch.nn.Parameter(torch.tensor(3.0)), torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x, z, text):
        return [self.a / 2 * x.square() + 5 * z, self.c * x[:, :1]]


def test_closed_form_and_its_gradient_to_the_weights():
    discriminator, x, z = Quadratic(), torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    penalty = single_sample_r1(discriminator, x, z, torch.randn(3, 1, 1), gamma=0.7, every=16)
    # score: a x²/2 summed over 32 numbers + c x summed over 16
    gradient = 3 * x[0]
    gradient[0] += 2
    torch.testing.assert_close(penalty, 16 * 0.35 * gradient.square().sum())
    penalty.backward()
    torch.testing.assert_close(discriminator.a.grad, 16 * 0.35 * (2 * gradient * x[0]).sum())
    torch.testing.assert_close(discriminator.c.grad, 16 * 0.35 * (2 * gradient[0]).sum())


def networks():
    torch.manual_seed(0)
    unet = DiffusionDiscriminator.from_teacher(toy.unet(), z_conditioning=True, multi_scale=True)
    checkpointed = DiffusionDiscriminator.from_teacher(toy.unet(), z_conditioning=True, multi_scale=True)
    checkpointed.unet.enable_gradient_checkpointing()
    gigagan = GigaGANDiscriminator((4, 8, 8), text_width=64, width=16, max_width=32)
    return {"unet": unet, "checkpointed unet": checkpointed, "gigagan": gigagan}


@pytest.mark.parametrize("name", ["unet", "checkpointed unet", "gigagan"])
def test_second_derivatives_agree_with_finite_differences(name):
    """Attention's fused kernels would raise here: they cannot be differentiated twice."""
    discriminator = networks()[name].double()
    x, z, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 7, 64)
    arguments = (discriminator, x.double(), z.double(), text.double())
    single_sample_r1(*arguments, gamma=1e3, every=1).backward()
    weights = [weight for weight in discriminator.parameters() if weight.grad is not None]
    count = sum(weight.numel() for weight in weights)  # short enough a step that no leaky ReLU bends in it
    directions = [torch.randn_like(weight) / count**0.5 for weight in weights]
    slope = sum((weight.grad * direction).sum() for weight, direction in zip(weights, directions, strict=True))

    def moved(distance):
        with torch.no_grad():
            for weight, direction in zip(weights, directions, strict=True):
                weight.add_(direction, alpha=distance)
        return single_sample_r1(*arguments, gamma=1e3, every=1).item()

    h = 1e-6
    difference = (moved(h) - moved(-2 * h)) / (2 * h)
    assert slope.item() == pytest.approx(difference, rel=1e-4)
    checkpointing = [getattr(module, "gradient_checkpointing", False) for module in discriminator.modules()]
    assert any(checkpointing) == (name == "checkpointed unet")  # as it was before


@pytest.mark.parametrize("name", ["unet", "gigagan"])
def test_the_gradient_is_that_of_functional_differentiation(name):
    """torch.func differentiates the penalty's definition twice without our code."""
    discriminator = networks()[name].double()
    x, z, text = (torch.randn(2, *shape).double() for shape in ((4, 8, 8), (4, 8, 8), (7, 64)))
    single_sample_r1(discriminator, x, z, text, gamma=1e3, every=16).backward()

    def verdict(sample, weights):
        logits = torch.func.functional_call(discriminator, weights, (sample, z[:1], text[:1]))
        return sum(head.sum() for head in logits)

    def penalty(weights):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return 16 * 1e3 / 2 * torch.func.grad(verdict)(x[:1], weights).pow(2).sum()

    weights = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    expected = torch.func.grad(penalty)(weights)
    for name, weight in discriminator.named_parameters():
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-10)


def test_lazy_r1_equals_r1_at_every_step_on_average():
    discriminator, x, z, text = Quadratic(), *(torch.randn(3, 2, 4, 4) for _ in range(2)), torch.randn(3, 1, 1)
    eager, lazy = (single_sample_r1(discriminator, x, z, text, gamma=0.7, every=every) for every in (1, 16))
    assert lazy.item() == pytest.approx(sum(eager.item() for _ in range(16)))


def test_only_the_first_sample_counts_and_it_is_computed_in_float32():
    discriminator, x, z, text = (
        networks()["unet"],
        torch.randn(3, 4, 8, 8),
        torch.randn(3, 4, 8, 8),
        torch.randn(3, 7, 64),
    )
    alone = single_sample_r1(discriminator, x[:1], z[:1], text[:1], gamma=1.0, every=16)
    with torch.autocast("cpu", torch.bfloat16):
        together = single_sample_r1(discriminator, x, z, text, gamma=1.0, every=16)
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    wide = single_sample_r1(
        deepcopy(discriminator).double(), x.double(), z.double(), text.double(), gamma=1.0, every=16
    )
    torch.testing.assert_close(together.double(), wide, rtol=1e-4, atol=0)


def test_added_conditions_are_those_of_the_first_sample():
    class Sized(Quadratic):
        def forward(self, x, z, text, time_ids):
            assert len(x) == len(z) == len(text) == len(time_ids) == 1
            return [time_ids[:, :, None, None] * head for head in super().forward(x, z, text)]

    x, z, text, sizes = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), torch.randn(3, 1, 1), torch.tensor([3, 5, 7])
    penalty = single_sample_r1(Sized(), x, z, text, gamma=0.7, every=16, time_ids=sizes[:, None])
    torch.testing.assert_close(penalty, 9 * single_sample_r1(Quadratic(), x, z, text, gamma=0.7, every=16))


def test_recomputed_blocks_give_the_same_gradient(monkeypatch):
    """Every block of the U-Net is recomputed in the backward pass, in both passes."""
    discriminator = networks()["unet"].double()
    x, z, text = (torch.randn(1, *shape).double() for shape in ((4, 8, 8), (4, 8, 8), (7, 64)))
    runs, exactly = [], r1._exactly
    monkeypatch.setattr(r1, "_exactly", lambda device: runs.append(device) or exactly(device))

    def gradients():
        runs.clear()
        discriminator.zero_grad()
        single_sample_r1(discriminator, x, z, text, gamma=0.1, every=16).backward()
        return {name: weight.grad for name, weight in discriminator.named_parameters() if weight.grad is not None}

    recomputed = gradients()
    assert len(runs) == 1 + 2 * 2 * 14  # 14 blocks, forward and again
    monkeypatch.setattr(r1, "_recomputed", lambda block, *inputs: block(*inputs))
    torch.testing.assert_close(recomputed, gradients(), rtol=1e-9, atol=1e-12)
    assert len(runs) == 1
