"""GigaGAN's discriminator: each part against a plain computation, and what each prediction may depend on."""

import math

import pytest
import torch
from torch.nn import functional as F

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator, L2Attention, ModulatedConv, TextBranch


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(0)
    return GigaGANDiscriminator((4, 16, 16), text_width=12, width=16, max_width=32, attention_side=8)


def inputs(side=16):
    generator = torch.Generator().manual_seed(1)
    x, z = torch.randn(2, 2, 4, side, side, generator=generator)
    return x, z, torch.randn(2, 5, 12, generator=generator)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [((4, 8, 8), (8, 4)), ((4, 64, 64), (64, 32, 16, 8, 4)), ((4, 128, 128), (128, 64, 32, 16, 8, 4))],
)
def test_every_entry_predicts_at_every_scale_that_follows(shape, sides):
    with torch.device("meta"):
        logits = GigaGANDiscriminator(shape, 768)(torch.empty(2, *shape), None, torch.empty(2, 77, 768))
    expected = [(2, 1, side, side) for entry in range(len(sides)) for side in sides[entry:]]
    assert [tuple(head.shape) for head in logits] == expected


@torch.no_grad()
def test_a_late_entry_sees_the_resized_latent_alone(discriminator):
    x, z, text = inputs()
    fine = torch.randn(2, 4, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)
    fine[..., ::2, :] *= -1  # of zero mean in each 2 × 2
    before, after = discriminator(x, z, text), discriminator(x + fine, z, text)
    assert not any(torch.allclose(a, b) for a, b in zip(before[:3], after[:3], strict=True))
    for a, b in zip(before[3:], after[3:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_logits_depend_on_the_text_and_not_on_the_noise(discriminator):
    x, z, text = inputs()
    logits = discriminator(x, z, text)
    torch.testing.assert_close(discriminator(x, z.flip(0), text), logits, rtol=0, atol=0)
    assert not any(torch.allclose(a, b) for a, b in zip(discriminator(x, z, text.flip(0)), logits, strict=True))


@torch.no_grad()
def test_attention_weighs_by_distance():
    torch.manual_seed(0)
    attention = L2Attention(8, head_width=4)
    features = torch.randn(1, 8, 2, 3)
    places = features[0].flatten(1).T
    q = places @ attention.queries.weight[:, :, 0, 0].T
    v = places @ attention.values.weight[:, :, 0, 0].T
    result = torch.zeros(6, 8)
    for head in range(2):
        for i in range(6):
            part = slice(4 * head, 4 * head + 4)
            weights = [math.exp(-float((q[i, part] - q[j, part]).square().sum()) / 2) for j in range(6)]
            result[i, part] = sum(w * v[j, part] for j, w in enumerate(weights)) / sum(weights)
    expected = places + result @ attention.out.weight[:, :, 0, 0].T + attention.out.bias
    torch.testing.assert_close(attention(features)[0].flatten(1).T, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_modulation_scales_inputs_and_restores_the_variance():
    torch.manual_seed(0)
    convolution, features, text = ModulatedConv(6, 5), torch.randn(2, 6, 3, 3), torch.randn(2, 5)
    expected = torch.empty_like(features)
    for n in range(2):
        style = convolution.style.weight @ text[n] + convolution.style.bias
        for out in range(6):
            row = convolution.weight[out] * style
            expected[n, out] = torch.einsum("i,ihw->hw", row / row.norm(), features[n]) + convolution.bias[out, 0, 0]
    torch.testing.assert_close(convolution(features, text), expected, rtol=1e-4, atol=1e-5)


def convolved(x, convolution):
    side, size = convolution.kernel_size[0], x.shape[-1] // convolution.stride[0]
    columns = F.unfold(x, side, padding=side // 2, stride=convolution.stride)
    return (convolution.weight.flatten(1) @ columns).unflatten(2, (size, size)) + convolution.bias[:, None, None]


def leaky(x):
    return torch.maximum(x, 0.2 * x)


@torch.no_grad()
def test_features_pass_through_the_parts_of_each_scale_in_order(discriminator):
    """Each scale: a residual block, attention at sides of 8 or less, predictions, downsampling."""
    x, z, text = inputs()
    descriptor = discriminator.text(text)
    logits = iter(discriminator(x, z, text))
    for entry in range(3):
        pooled = x.unflatten(3, (-1, 1 << entry)).unflatten(2, (-1, 1 << entry)).mean((3, 5))
        features = convolved(pooled, discriminator.scales[entry].enter)
        for scale in discriminator.scales[entry:]:
            residual, attention = scale.body
            first, second = (layer for layer in residual.convolutions if isinstance(layer, torch.nn.Conv2d))
            features = (features + convolved(leaky(convolved(leaky(features), first)), second)) / math.sqrt(2)
            if features.shape[-1] <= 8:
                assert isinstance(attention, L2Attention)
                features = attention(features)
            matched = features
            for convolution in scale.predictor.modulated:
                matched = leaky(convolution(matched, descriptor))
            wanted = convolved(matched, scale.predictor.conditional) + convolved(
                features, scale.predictor.unconditional
            )
            torch.testing.assert_close(next(logits), wanted, rtol=1e-4, atol=1e-5)
            if scale is not discriminator.scales[-1]:
                features = convolved(features, scale.coarser)


@torch.no_grad()
def test_the_text_descriptor_is_the_output_of_the_learnt_token(discriminator):
    """The branch adds no position embedding, so the order of the tokens does not change the descriptor."""
    x, z, text = inputs()
    for a, b in zip(discriminator(x, z, text.flip(1)), discriminator(x, z, text), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_channels_double_at_each_halving_up_to_max_width():
    with torch.device("meta"):
        discriminator = GigaGANDiscriminator((4, 64, 64), 768)
    assert [scale.enter.out_channels for scale in discriminator.scales] == [128, 256, 512, 512, 512]
    attending = [any(isinstance(part, L2Attention) for part in scale.body) for scale in discriminator.scales]
    assert attending == [False, False, True, True, True]  # at sides of 16, 8, 4


def test_every_weight_is_trained(discriminator):
    torch.stack([head.mean() for head in discriminator(*inputs())]).sum().backward()
    assert [name for name, weight in discriminator.named_parameters() if weight.grad is None] == []


def test_a_style_of_zeros_gives_zeros_and_finite_gradients():
    convolution = ModulatedConv(6, 5)
    for weight in convolution.style.parameters():
        torch.nn.init.zeros_(weight)
    made = convolution(torch.randn(2, 6, 3, 3), torch.randn(2, 5))
    assert (made == 0).all()
    made.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in convolution.parameters())


def test_the_learnt_token_starts_small():
    torch.manual_seed(0)
    read = GigaGANDiscriminator((4, 8, 8), text_width=12, width=16, max_width=4096, text_layers=0).text.read
    assert read.mean().abs().item() < 2e-3 and read.std().item() == pytest.approx(0.02, rel=0.1)


@torch.no_grad()
def test_the_text_branch_is_a_transformer_that_normalises_first():
    """The learnt token before the projected text; two layers of eight heads and a GELU of four times the width."""
    torch.manual_seed(0)
    branch = TextBranch(12, 16, 2).double()
    for weight in branch.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    text = torch.randn(2, 5, 12).double()

    def normalised(x, norm):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias

    def gelu(x):
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    h = torch.stack(
        [torch.cat([branch.read[0], each @ branch.project.weight.T + branch.project.bias]) for each in text]
    )
    assert len(branch.layers.layers) == 2
    for layer in branch.layers.layers:
        attention = layer.self_attn
        q, k, v = (
            (normalised(h, layer.norm1) @ attention.in_proj_weight.T + attention.in_proj_bias)
            .unflatten(2, (3, 8, 2))
            .unbind(2)
        )
        weights = (torch.einsum("nqhc,nkhc->nhqk", q, k) / math.sqrt(2)).softmax(-1)
        attended = torch.einsum("nhqk,nkhc->nqhc", weights, v).flatten(2)
        h = h + attended @ attention.out_proj.weight.T + attention.out_proj.bias
        first, second = layer.linear1, layer.linear2
        assert first.out_features == 4 * 16
        h = h + gelu(normalised(h, layer.norm2) @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(branch(text), h[:, 0])


def test_a_prediction_is_modulated_four_times_and_attention_has_heads_of_64_channels(discriminator):
    assert all(len(scale.predictor.modulated) == 4 for scale in discriminator.scales)
    assert [L2Attention(width).heads for width in (16, 64, 128, 512)] == [1, 1, 2, 8]
