"""The discriminator's U-Net computes the teacher's features, and its readouts are where Fig. 5 puts them."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from layouts import SD15, SDXL, SMALL_BK, SMALL_SD15, SMALL_SDXL
from torch.nn import functional as F

from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.toy import networks as toy

LAYOUTS = {
    "toy": lambda: toy.unet(),
    "sd15": lambda: UNet2DConditionModel(**SMALL_SD15),
    "bk-sdm": lambda: UNet2DConditionModel(**SMALL_BK),
    "sdxl": lambda: UNet2DConditionModel(**SMALL_SDXL),
}


def unet_and_inputs(layout, side=16):
    torch.manual_seed(0)
    unet = LAYOUTS[layout]().eval()
    x, z = torch.randn(2, 2, 4, side, side)
    conditions = {"text_embeddings": torch.randn(2, 5, unet.config.cross_attention_dim)}
    if layout == "sdxl":
        conditions |= {"text_embeds": torch.randn(2, 10), "time_ids": torch.rand(2, 6)}
    return unet, x, z, conditions


def places_of_diffusers(unet, x, conditions):
    """Skip, backbone feature before it, and output (upsampled but in the last) of each decoder block, by hooks."""
    skips, befores, outputs = [], [], []

    def enter(module, args, kwargs):
        skips.append(kwargs["res_hidden_states_tuple"][-1])
        befores.append(kwargs["hidden_states"])

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in unet.up_blocks]
    handles += [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in unet.up_blocks]
    added = {name: value for name, value in conditions.items() if name != "text_embeddings"}
    unet(x, 0, conditions["text_embeddings"], added_cond_kwargs=added)
    for handle in handles:
        handle.remove()
    return skips, befores, outputs


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("side", [16, 24])  # 24 does not halve evenly thrice: sizes must be forwarded
def test_at_initialisation_the_backbone_is_the_teacher_s(layout, side):
    unet, x, z, conditions = unet_and_inputs(layout, side)
    skips, befores, outputs = places_of_diffusers(unet, x, conditions)
    discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=True)
    scales = discriminator.features(x, z, **conditions)
    assert len(scales) == len(unet.up_blocks)
    for (skip, before, _), expected_skip, expected_before in zip(scales, skips, befores, strict=True):
        torch.testing.assert_close(skip, expected_skip, rtol=0, atol=0)
        torch.testing.assert_close(before, expected_before, rtol=0, atol=0)
    torch.testing.assert_close(scales[-1][2], outputs[-1], rtol=0, atol=0)
    for scale in scales:  # three features of one resolution
        assert len({place.shape[-2:] for place in scale}) == 1


@torch.no_grad()
def test_resized_latents_join_the_backbone_between_encoder_blocks_and_z_at_the_input():
    """The same merges, made on the teacher by hooks, give the same features."""
    unet, x, z, conditions = unet_and_inputs("sd15")
    discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=True)
    for conv in (discriminator.z_in, *discriminator.x_in):
        torch.nn.init.normal_(conv.weight, std=0.1)
        torch.nn.init.normal_(conv.bias)
    unet.conv_in.register_forward_hook(lambda module, args, output: output + discriminator.z_in(z))
    for block, conv in zip(unet.down_blocks[:-1], discriminator.x_in, strict=True):

        def merge(module, args, output, conv=conv):
            trunk, skips = output
            factor = x.shape[-1] // trunk.shape[-1]
            trunk = trunk + conv(F.avg_pool2d(x, factor))
            return trunk, (*skips[:-1], trunk)

        block.register_forward_hook(merge)
    skips, befores, outputs = places_of_diffusers(unet, x, conditions)
    scales = discriminator.features(x, z, **conditions)
    for (skip, before, _), expected_skip, expected_before in zip(scales, skips, befores, strict=True):
        torch.testing.assert_close(skip, expected_skip)
        torch.testing.assert_close(before, expected_before)
    torch.testing.assert_close(scales[-1][2], outputs[-1])


@torch.no_grad()
def test_readouts_read_the_features_of_fig_5():
    unet, x, z, conditions = unet_and_inputs("toy", side=8)
    discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=False, multi_scale=True)
    places = [place for scale in discriminator.features(x, z, **conditions) for place in scale]
    logits = discriminator(x, z, **conditions)
    assert [tuple(head.shape) for head in logits] == [(2, 1, 2, 2)] * 3 + [(2, 1, 4, 4)] * 3 + [(2, 1, 8, 8)] * 3
    for readout, place, head in zip(discriminator.readouts, places, logits, strict=True):
        groups = place.unflatten(1, (16, -1)).flatten(2)
        groups = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        normal = groups.view_as(place) * readout[0].weight.view(-1, 1, 1) + readout[0].bias.view(-1, 1, 1)
        weighted = torch.einsum("nchw,c->nhw", normal * normal.sigmoid(), readout[2].weight[0, :, 0, 0])
        torch.testing.assert_close(head[:, 0], weighted + readout[2].bias, rtol=1e-4, atol=1e-5)
    single = DiffusionDiscriminator.from_teacher(unet, z_conditioning=False, multi_scale=False)
    assert [tuple(head.shape) for head in single(x, z, **conditions)] == [(2, 1, 8, 8)]


@torch.no_grad()
def test_noise_text_and_added_conditions_reach_the_logits():
    unet, x, z, conditions = unet_and_inputs("sdxl")
    discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=True)
    torch.nn.init.normal_(discriminator.z_in.weight)
    (*_, original) = discriminator(x, z, **conditions)
    assert not torch.allclose(original, discriminator(x, z.flip(0), **conditions)[-1])
    for name, condition in conditions.items():
        changed = discriminator(x, z, **conditions | {name: condition.flip(0)})[-1]
        assert not torch.allclose(original, changed), name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("multi_scale", [False, True])
def test_every_weight_is_trained_and_the_teacher_is_left_alone(layout, multi_scale):
    unet, x, z, conditions = unet_and_inputs(layout)
    unet.requires_grad_(False)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=multi_scale)
    logits = discriminator(x, z, **conditions)
    torch.stack([head.square().mean() for head in logits]).sum().backward()
    assert [name for name, weight in discriminator.named_parameters() if weight.grad is None] == []
    assert not any(weight.requires_grad for weight in unet.parameters())
    torch.testing.assert_close(dict(unet.state_dict()), before, rtol=0, atol=0)


def test_gradient_checkpointing_of_the_unet_changes_no_gradient():
    unet, x, z, conditions = unet_and_inputs("toy", side=8)
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(1)
        discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=True)
        if enabled:
            discriminator.unet.enable_gradient_checkpointing()
        calls = []
        resnet = discriminator.unet.up_blocks[0].resnets[0]
        resnet.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.stack([head.mean() for head in discriminator(x, z, **conditions)]).sum().backward()
        assert len(calls) == 1 + enabled  # run again in the backward pass
        gradients.append([weight.grad for weight in discriminator.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("config", "side", "tokens", "scales", "weights"),
    [
        (SD15, 64, (77, 768), (8, 16, 32, 64), 859_520_964),
        (SDXL, 128, (77, 2048), (32, 64, 128), 2_567_463_684),
    ],
    ids=["sd15", "sdxl"],
)
def test_at_the_size_of_the_paper_s_teachers(config, side, tokens, scales, weights):
    """On the meta device: every readout's shape, every weight of the teacher in its place, every weight trained."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config).requires_grad_(False)
        x, text = torch.empty(1, 4, side, side), torch.empty(1, *tokens)
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)} if side == 128 else {}
        discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=True)
        logits = discriminator(x, x, text, **added)
        torch.stack([head.mean() for head in logits]).sum().backward()
    assert [tuple(head.shape) for head in logits] == [(1, 1, scale, scale) for scale in scales for _ in range(3)]

    assert sum(weight.numel() for weight in unet.parameters()) == weights
    output = {name for name, _ in unet.named_parameters() if name.startswith(("conv_norm_out.", "conv_out."))}
    kept = dict(discriminator.unet.named_parameters())
    upsampled = {
        f"up_blocks.{number}.upsamplers.0.{name}"
        for number, upsampler in enumerate(discriminator.upsamplers)
        for name, _ in upsampler.named_parameters()
    }
    assert kept.keys() | upsampled | output == dict(unet.named_parameters()).keys()

    # 3 × 3 convolutions of the 4 latent channels, and a GroupNorm and a 1 × 1 convolution a readout
    entered = [320, *config["block_out_channels"][:-1]]
    read = [readout[2].in_channels for readout in discriminator.readouts]
    new = sum(4 * 9 * width + width for width in entered) + sum(2 * width + width + 1 for width in read)
    removed = 2 * 320 + 320 * 4 * 9 + 4
    assert sum(weight.numel() for weight in discriminator.parameters()) == weights - removed + new
    assert [name for name, weight in discriminator.named_parameters() if weight.grad is None] == []
