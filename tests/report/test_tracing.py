"""What Figures 4 and 5 say of the networks is what the networks say of themselves."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from layouts import SD15, SDXL

from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.report import tracing
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy

SMALL = {"norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 2, "sample_size": 16}
LAYOUTS = {
    "toy": lambda: toy.unet(),
    "four blocks": lambda: UNet2DConditionModel(**SD15 | SMALL | {"block_out_channels": (8, 16, 24, 24)}),
    "three blocks": lambda: UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 24),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
    ),
}


def trace(layout, **discriminator):
    """The discriminator of a layout as traced, for a text of 5 tokens."""
    with torch.device("meta"):
        return tracing.trace_discriminator(LAYOUTS[layout](), 5, **discriminator)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("multi_scale", [True, False])
def test_as_many_blocks_entries_and_readouts_as_the_module_has(layout, multi_scale):
    unet = LAYOUTS[layout]()
    discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=multi_scale)
    traced = trace(layout, z_conditioning=True, multi_scale=multi_scale)
    assert traced.weights == sum(weight.numel() for weight in discriminator.parameters())
    assert len(traced.encoder) == len(unet.down_blocks) and len(traced.decoder) == len(unet.up_blocks)
    assert len(traced.readouts) == len(discriminator.readouts)
    assert sum(block.entry is not None for block in traced.encoder) == len(discriminator.x_in)

    side, channels = unet.config.sample_size, unet.config.in_channels
    x = torch.randn(1, channels, side, side)
    with torch.no_grad():
        text = torch.randn(1, 5, unet.config.cross_attention_dim)
        logits = discriminator(x, x, text)
        features = discriminator.features(x, x, text)
    assert sorted(readout.logits for readout in traced.readouts) == sorted(tuple(each.shape[1:]) for each in logits)
    for block, (skip, before, after) in zip(traced.decoder, features, strict=True):
        assert block.shape == tuple(after.shape[1:])
        here = {"at": tuple(skip.shape[1:]), "before": tuple(before.shape[1:]), "after": tuple(after.shape[1:])}
        if multi_scale:
            assert {readout.place: readout.features for readout in block.readouts} == here
    if not multi_scale:
        assert [len(block.readouts) for block in traced.decoder] == [0] * (len(traced.decoder) - 1) + [1]


def test_text_noise_and_skip_connections_go_where_they_go():
    traced = trace("three blocks", z_conditioning=False, multi_scale=True)
    assert traced.z is None
    assert [block.attends for block in traced.encoder] == [False, True, False]
    assert [block.attends for block in traced.decoder] == [False, True, False]
    assert [block.level for block in traced.decoder] == [2, 1, 0]
    assert [block.skips for block in traced.decoder] == [2, 2, 2]
    assert [block.entry for block in traced.encoder] == [None, (4, 8, 8), (4, 4, 4)]


@pytest.mark.parametrize(
    ("config", "sides", "text"), [(SD15, (8, 16, 32, 64), (77, 768)), (SDXL, (32, 64, 128), (77, 2048))]
)
def test_at_the_size_of_the_paper_s_teachers(config, sides, text):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    traced = tracing.trace_discriminator(unet, 77, z_conditioning=True, multi_scale=True)
    assert [block.shape[-1] for block in traced.decoder] == list(sides) and traced.text == text
    assert [readout.logits for readout in traced.readouts] == [(1, side, side) for side in sides for _ in range(3)]
    assert [block.shape[-1] for block in traced.encoder] == list(reversed(sides))


def test_the_overview_is_of_the_teacher_s_own_parts(teacher_folder):
    traced = tracing.overview(str(teacher_folder), "bg", 0.25, z_conditioning=True, multi_scale=True)
    teacher, student = Teacher(str(teacher_folder)), Generator.from_teacher(teacher_folder)

    def weights(module):
        return sum(weight.numel() for weight in module.parameters())

    assert traced.generator.weights == weights(student.unet) and traced.timestep == student.timestep == 999
    assert traced.generator.shape == teacher.latent_shape
    assert traced.text_encoder.weights == weights(teacher.text_encoder)
    assert traced.text_encoder.shape == tuple(teacher.encode_text(["a fox"])["text_embeddings"].shape[1:])
    assert traced.decoder.shape == (3, teacher.image_size, teacher.image_size)
    assert len(traced.metric.taps) == 5 and traced.metric.preset == "bg"
    alone = tracing.discriminator(str(teacher_folder), z_conditioning=True, multi_scale=True)
    assert alone == traced.discriminator


def test_no_teacher_is_a_user_s_mistake(tmp_path):
    with pytest.raises(UserError, match="give a diffusers pipeline"):
        tracing.discriminator(str(tmp_path), z_conditioning=True, multi_scale=True)
