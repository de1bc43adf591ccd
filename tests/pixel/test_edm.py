"""EDM's network and its preconditioning, each part against the published formula written out again."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diffusion2gan.pixel.edm import EDM, SIGMA_MIN, Block, noise_embedding, noise_levels


def small(**changes) -> EDM:
    settings = {"sample_size": 16, "model_channels": 16, "channel_mult": (1, 2), "num_blocks": 1}
    settings |= {"attn_resolutions": (8,)}
    return EDM(**settings | changes)


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Randomise the weights: some are nearly zero at the start and would hide a mistake."""
    torch.manual_seed(0)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return module.double()


def test_the_official_network_has_its_weights():
    with torch.device("meta"):
        network = EDM()
    # the published checkpoint has these and the 128 × 9 of the augmentation, which forward does not use
    assert sum(weight.numel() for weight in network.parameters()) == 55_733_891 - 128 * 9
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    # as the published checkpoint lists them
    assert shapes["model.enc.32x32_conv.weight"] == (128, 3, 3, 3)
    assert shapes["model.enc.16x16_down.skip.weight"] == (128 * 2, 256, 1, 1)
    assert shapes["model.enc.16x16_block3.qkv.weight"] == (768, 256, 1, 1)
    assert shapes["model.dec.8x8_in0.proj.bias"] == (256,)
    assert shapes["model.dec.16x16_block4.norm2.weight"] == (256,)
    assert shapes["model.dec.32x32_block4.conv0.weight"] == (256, 256 + 128, 3, 3)
    assert shapes["model.dec.32x32_aux_conv.weight"] == (3, 256, 3, 3)
    attending = {name.split(".")[2] for name in shapes if name.endswith("qkv.weight")}
    assert attending == {f"16x16_block{i}" for i in range(5)} | {"8x8_in0"}


def test_the_official_ncsnpp_has_its_weights():
    with torch.device("meta"):
        network = EDM(architecture="ncsnpp")
    # as DDPM++, with twice the noise embedding and two convolutions of the pyramid
    pyramid = 3 * 256 * 9 + 256 + 256 * 256 * 9 + 256
    assert sum(weight.numel() for weight in network.parameters()) == 55_732_739 + 128 * 512 + pyramid == 56_395_523
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    assert shapes["model.map_noise.freqs"] == (128,) and shapes["model.map_layer0.weight"] == (512, 256)
    assert shapes["model.enc.16x16_aux_residual.weight"] == (256, 3, 3, 3)
    assert shapes["model.enc.8x8_aux_residual.weight"] == (256, 256, 3, 3)
    names = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in shapes))
    assert names.index("model.enc.16x16_aux_residual") == names.index("model.enc.16x16_down") + 1


def halved(x, taps, padding):
    """Each channel convolved with the outer product of the taps, every second pixel."""
    kernel = torch.outer(*[torch.tensor(taps).double() / sum(taps)] * 2)
    x = F.pad(x, (padding,) * 4)
    rows = range(0, x.shape[2] - len(taps) + 1, 2)
    patches = [[(x[..., i : i + len(taps), j : j + len(taps)] * kernel).sum((2, 3)) for j in rows] for i in rows]
    return torch.stack([torch.stack(row, -1) for row in patches], -2)


def doubled(x, taps):
    """Each pixel spread over the taps, two pixels apart; what leaves the image is cut off."""
    kernel = torch.outer(*[2 * torch.tensor(taps).double() / sum(taps)] * 2)
    side, edge = 2 * x.shape[2], (len(taps) - 2) // 2
    found = torch.zeros(*x.shape[:2], side + 2 * edge, side + 2 * edge).double()
    for i, j in np.ndindex(*x.shape[2:]):
        found[..., 2 * i : 2 * i + len(taps), 2 * j : 2 * j + len(taps)] += x[..., i, j, None, None] * kernel
    return found[..., edge : edge + side, edge : edge + side]


def convolved(x, weight, bias):
    side, size = weight.shape[-1], x.shape[-1]
    columns = F.unfold(x, side, padding=side // 2)
    return (weight.flatten(1) @ columns).unflatten(2, (size, size)) + bias[:, None, None]


def normalised(x, norm):
    grouped = x.reshape(len(x), norm.num_groups, -1)
    grouped = (grouped - grouped.mean(2, keepdim=True)) / (grouped.var(2, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return grouped.reshape(x.shape) * norm.weight[:, None, None] + norm.bias[:, None, None]


def silu(x):
    return x / (1 + (-x).exp())


@pytest.mark.parametrize("resample", [None, "down", "up"])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("after", [8, 12])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_block(resample, attention, after, smooth):
    block = shaken(Block(8, after, 10, dropout=0.0, attention=attention, resample=resample, smooth=smooth))
    x, emb = torch.randn(2, 8, 4, 4).double(), torch.randn(2, 10).double()
    taps = [1, 3, 3, 1] if smooth else [1, 1]
    resampled = {
        None: lambda h: h,
        "down": lambda h: halved(h, taps, padding=(len(taps) - 1) // 2),
        "up": lambda h: doubled(h, taps),
    }[resample]

    h = convolved(resampled(silu(normalised(x, block.norm0))), block.conv0.weight, block.conv0.bias)
    h = h + (emb @ block.affine.weight.T + block.affine.bias)[..., None, None]
    h = convolved(silu(normalised(h, block.norm1)), block.conv1.weight, block.conv1.bias)
    x0 = resampled(x)
    if after != 8 or resample:
        x0 = convolved(x0, block.skip.weight, block.skip.bias)
    wanted = (h + x0) * math.sqrt(0.5)
    if attention:
        qkv = convolved(normalised(wanted, block.norm2), block.qkv.weight, block.qkv.bias).flatten(2)
        q, k, v = qkv[:, 0::3], qkv[:, 1::3], qkv[:, 2::3]
        weights = (torch.einsum("ncq,nck->nqk", q, k) / math.sqrt(after)).softmax(2)
        attended = torch.einsum("nqk,nck->ncq", weights, v).reshape(wanted.shape)
        wanted = (convolved(attended, block.proj.weight, block.proj.bias) + wanted) * math.sqrt(0.5)
    torch.testing.assert_close(block(x, emb), wanted)


def decoded(dec, skips, emb):
    """The decoder of three resolutions, block by block; it uses every skip connection."""
    h, skips = dec["4x4_in1"](dec["4x4_in0"](skips[-1], emb), emb), list(skips)
    for side in (4, 8, 16):
        h = dec[f"{side}x{side}_up"](h, emb) if side > 4 else h
        for number in range(3):
            h = dec[f"{side}x{side}_block{number}"](torch.cat([h, skips.pop()], 1), emb)
    assert not skips
    return h


def test_the_network_is_its_blocks_in_their_order():
    network = shaken(small(num_blocks=2, channel_mult=(1, 2, 2)).model)
    x, c = torch.randn(2, 3, 16, 16).double(), torch.tensor([0.1, -1.0]).double()
    emb = silu(network.map_layer1(silu(network.map_layer0(noise_embedding(c, 16)))))
    enc, dec = network.enc, network.dec
    s = [enc["16x16_conv"](x)]
    for name in ("16x16_block0", "16x16_block1", "8x8_down", "8x8_block0", "8x8_block1", "4x4_down", "4x4_block0",
                 "4x4_block1"):  # fmt: skip
        s.append(enc[name](s[-1], emb))
    h = decoded(dec, s, emb)
    torch.testing.assert_close(network(x, c), dec["16x16_aux_conv"](silu(dec["16x16_aux_norm"](h))))


def test_the_ncsnpp_adds_a_pyramid_of_its_input():
    network = shaken(small(num_blocks=2, channel_mult=(1, 2, 2), architecture="ncsnpp").model)
    x, c = torch.randn(2, 3, 16, 16).double(), torch.tensor([0.1, -1.0]).double()
    assert network.map_noise.freqs.shape == (16,) and 8 < network.map_noise.freqs.std() < 24
    angles = 2 * math.pi * c[:, None] * network.map_noise.freqs[None]
    emb = silu(network.map_layer1(silu(network.map_layer0(torch.cat([angles.sin(), angles.cos()], 1)))))
    enc, dec = network.enc, network.dec

    def pyramid(name, x):
        """The convolution on an image padded by two, then the filter on its result, as official code fuses them."""
        weight, bias = enc[name].weight, enc[name].bias
        return halved(F.conv2d(x, weight, padding=2), [1, 3, 3, 1], padding=0) + bias[:, None, None]

    s = [enc["16x16_conv"](x)]
    for name in ("16x16_block0", "16x16_block1", "8x8_down"):
        s.append(enc[name](s[-1], emb))
    s[-1] = at8 = (s[-1] + pyramid("8x8_aux_residual", x)) * math.sqrt(0.5)
    for name in ("8x8_block0", "8x8_block1", "4x4_down"):
        s.append(enc[name](s[-1], emb))
    s[-1] = (s[-1] + pyramid("4x4_aux_residual", at8)) * math.sqrt(0.5)
    for name in ("4x4_block0", "4x4_block1"):
        s.append(enc[name](s[-1], emb))
    h = decoded(dec, s, emb)
    assert all(block.smooth for part in (enc, dec) for block in part.values() if isinstance(block, Block))
    torch.testing.assert_close(network(x, c), dec["16x16_aux_conv"](silu(dec["16x16_aux_norm"](h))))


def test_the_noise_embedding():
    c = torch.tensor([0.5, -2.0]).double()
    wanted = [[f(v * 10000 ** (-i / 3)) for f in (math.sin, math.cos) for i in range(4)] for v in c.tolist()]
    torch.testing.assert_close(noise_embedding(c, 8), torch.tensor(wanted).double())


@pytest.mark.parametrize("boundary", [0.0, SIGMA_MIN])
def test_preconditioning(boundary):
    """Karras et al. 2022, Table 1; with a boundary, Song et al. 2023, Appendix C."""
    edm = shaken(small(boundary=boundary))
    x, sigma = torch.randn(3, 3, 16, 16).double(), torch.tensor([0.002, 0.7, 80.0]).double()
    for i, s in enumerate(sigma.tolist()):
        total = math.sqrt(s**2 + 0.25)
        predicted = edm.model(x[i : i + 1] / total, torch.tensor([math.log(s) / 4]).double())
        wanted = 0.25 / ((s - boundary) ** 2 + 0.25) * x[i : i + 1] + 0.5 * (s - boundary) / total * predicted
        torch.testing.assert_close(edm(x, sigma)[i : i + 1], wanted)


def test_a_consistency_function_changes_nothing_at_its_boundary():
    edm = shaken(small(boundary=SIGMA_MIN)).float()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(edm(x, SIGMA_MIN), x)
    assert not torch.equal(edm(x, 2 * SIGMA_MIN), x)


def test_noise_levels():
    levels = noise_levels(18)
    assert levels[0].item() == pytest.approx(80) and levels[-1].item() == pytest.approx(0.002)
    wanted = (80 ** (1 / 7) + 5 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert levels[5].item() == pytest.approx(wanted)


@pytest.mark.parametrize("architecture", ["ddpmpp", "ncsnpp"])
def test_it_is_saved_and_read(tmp_path, architecture):
    edm = small(boundary=SIGMA_MIN, architecture=architecture)
    edm.save_pretrained(tmp_path)
    again = EDM.from_pretrained(tmp_path)
    assert again.config.boundary == SIGMA_MIN and again.config.channel_mult == [1, 2]
    assert all(torch.equal(a, b) for a, b in zip(edm.state_dict().values(), again.state_dict().values(), strict=True))


def test_dropout_acts_in_training_alone():
    block, x, emb = shaken(Block(8, 8, 10, dropout=0.5)), torch.randn(2, 8, 4, 4).double(), torch.randn(2, 10).double()
    dropped = block(x, emb)
    block.dropout = 0.0
    whole = block(x, emb)
    block.dropout = 0.5
    assert not torch.allclose(dropped, whole)
    torch.testing.assert_close(block.eval()(x, emb), whole)
