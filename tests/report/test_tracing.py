"""The graphs behind Figures 4 and 5 agree with the networks themselves."""

import networkx as nx
import pytest
import torch
from diffusers import UNet2DConditionModel
from layouts import SD15, SDXL, SMALL_BK, SMALL_SD15

from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.report import tracing
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy

LAYOUTS = {
    "toy": lambda: toy.unet(),
    "four blocks": lambda: UNet2DConditionModel(**SMALL_SD15),
    "no middle": lambda: UNet2DConditionModel(**SMALL_BK),
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
    """The discriminator of a layout as a graph, for a text of 5 tokens."""
    with torch.device("meta"):
        return tracing.trace_discriminator(LAYOUTS[layout](), 5, **discriminator)


def parts(graph, prefix):
    """The attributes of the nodes whose names start with a prefix."""
    return [node for name, node in graph.nodes.items() if name.startswith(prefix)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("multi_scale", [True, False])
def test_as_many_blocks_entries_and_readouts_as_the_module_has(layout, multi_scale):
    unet = LAYOUTS[layout]()
    discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning=True, multi_scale=multi_scale)
    graph = trace(layout, z_conditioning=True, multi_scale=multi_scale)
    assert graph.graph["weights"] == sum(weight.numel() for weight in discriminator.parameters())
    assert len(parts(graph, "encoder")) == len(unet.down_blocks)
    assert len(parts(graph, "decoder")) == len(unet.up_blocks)
    assert len(tracing.readouts(graph)) == len(discriminator.readouts)
    assert len(parts(graph, "resized x")) == len(discriminator.x_in)

    side, channels = unet.config.sample_size, unet.config.in_channels
    x = torch.randn(1, channels, side, side)
    with torch.no_grad():
        text = torch.randn(1, 5, unet.config.cross_attention_dim)
        logits = discriminator(x, x, text)
        features = discriminator.features(x, x, text)
    assert [shape for _, shape in tracing.readouts(graph)] == [tuple(each.shape[1:]) for each in logits]
    for number, (skip, before, after) in enumerate(features):
        name = f"decoder {number}"
        assert graph.nodes[name]["shape"] == tuple(after.shape[1:])
        here = {"at": tuple(skip.shape[1:]), "before": tuple(before.shape[1:]), "after": tuple(after.shape[1:])}
        after = [graph.nodes[each] for each in graph.successors(name)]
        read = {node["place"]: node["features"] for node in after if "place" in node}
        if multi_scale:
            assert read == here
        else:
            assert list(read) == ([] if number < len(features) - 1 else ["after"])


def test_text_noise_and_skip_connections_go_where_they_go():
    graph = trace("three blocks", z_conditioning=False, multi_scale=True)
    assert "z" not in graph
    assert set(graph.successors("text")) == {"encoder 1", "middle", "decoder 1"}
    skips = {edge: number for *edge, number in graph.edges(data="skips") if number for edge in [tuple(edge)]}
    assert skips == {("encoder 2", "decoder 0"): 2, ("encoder 1", "decoder 1"): 2, ("encoder 0", "decoder 2"): 2}
    entries = {block: graph.nodes[name]["shape"] for name, block in graph.edges if name.startswith("resized x")}
    assert entries == {"encoder 1": (4, 8, 8), "encoder 2": (4, 4, 4)}
    way = ["x", "stem", "encoder 0", "encoder 1", "encoder 2", "middle", "decoder 0", "decoder 1", "decoder 2"]
    assert nx.is_path(graph, way)
    seeing = trace("three blocks", z_conditioning=True, multi_scale=True)
    assert list(seeing.successors("z")) == ["encoder 0"] and seeing.nodes["z"]["shape"] == (4, 16, 16)


@pytest.mark.parametrize(
    ("config", "sides", "text"), [(SD15, (8, 16, 32, 64), (77, 768)), (SDXL, (32, 64, 128), (77, 2048))]
)
def test_at_the_size_of_the_paper_s_teachers(config, sides, text):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    graph = tracing.trace_discriminator(unet, 77, z_conditioning=True, multi_scale=True)
    assert [node["shape"][-1] for node in parts(graph, "decoder")] == list(sides)
    assert graph.nodes["text"]["shape"] == text
    assert [shape for _, shape in tracing.readouts(graph)] == [(1, side, side) for side in sides for _ in range(3)]
    assert [node["shape"][-1] for node in parts(graph, "encoder")] == list(reversed(sides))


def test_the_overview_is_of_the_teacher_s_own_parts(teacher_folder):
    graph = tracing.trace_overview(str(teacher_folder), "bg", 0.25, z_conditioning=True, multi_scale=True)
    node = graph.nodes
    teacher, student = Teacher(str(teacher_folder)), Generator.from_teacher(teacher_folder)

    def weights(module):
        return sum(weight.numel() for weight in module.parameters())

    assert node["generator"]["weights"] == weights(student.unet)
    assert node["generator"]["timestep"] == student.timestep == 999
    assert node["generator"]["shape"] == teacher.latent_shape
    assert node["text"]["weights"] == weights(teacher.text_encoder)
    assert node["text"]["shape"] == tuple(teacher.encode_text(["a fox"])["text_embeddings"].shape[1:])
    assert node["decoder"]["shape"] == (3, teacher.image_size, teacher.image_size)
    assert len(node["metric"]["taps"]) == 5 and node["metric"]["preset"] == "bg"
    alone = tracing.trace_teacher_discriminator(str(teacher_folder), z_conditioning=True, multi_scale=True)
    logits = [shape for _, shape in tracing.readouts(alone)]
    assert node["discriminator"] == {**alone.graph, "logits": logits}


def test_no_teacher_is_a_user_s_mistake(tmp_path):
    with pytest.raises(UserError, match="give a diffusers pipeline"):
        tracing.trace_teacher_discriminator(str(tmp_path), z_conditioning=True, multi_scale=True)
