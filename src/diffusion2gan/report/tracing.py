"""Networks as graphs: built from a teacher's settings without weights, and run once (Figures 4 and 5).

Everything is on the meta device, so classes, numbers of weights and shapes are the real ones at no cost. A node that is
a module has the attributes `module` (its class), `weights` (their number) and `shape` (of its output). Shapes are those
of one sample. An edge from `text` means cross-attention.
"""

from collections.abc import Callable
from types import SimpleNamespace

import networkx as nx
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from diffusion2gan.discriminators.unet import TIMESTEP, DiffusionDiscriminator
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS
from diffusion2gan.networks.vgg import VGG


def trace_overview(path: str, preset: str, width: float, z_conditioning: bool, multi_scale: bool) -> nx.DiGraph:
    """Figure 4: the pairs, the generator and its losses, for the teacher pipeline at `path`, a folder or a hub id.

    `preset` is the preset of the ensemble, `width` the width of the metric's VGG. Raises UserError if there is no
    such pipeline.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_settings(UNet2DConditionModel.load_config, path, "unet"))
        text_encoder = CLIPTextModel(_settings(CLIPTextConfig.from_pretrained, path, "text_encoder"))
        vae = AutoencoderKL.from_config(_settings(AutoencoderKL.load_config, path, "vae"))
    generator = Generator(unet, DDIMScheduler.from_config(_settings(DDIMScheduler.load_config, path, "scheduler")))
    tokens = text_encoder.config.max_position_embeddings
    with torch.device("meta"), torch.no_grad():
        z, text = _latent(unet), text_encoder(torch.zeros(1, tokens, dtype=torch.long)).last_hidden_state
        call = _calls({"unet": unet}, lambda: generator(z, text))["unet"]
        x = call.output.sample
        decoded = _calls({"decoder": vae.decoder}, lambda: vae.decode(x))["decoder"].output
    vgg = VGG("latent", x.shape[1], classes=0, width=width)
    metric = ELatentLPIPS(LPIPS(vgg, [torch.ones(each) for each in vgg.widths]), Ensemble(preset))
    taps = [_shape(features) for features in vgg.to("meta").features(x)]
    discriminator = trace_discriminator(unet, tokens, z_conditioning, multi_scale)

    graph = nx.DiGraph()
    graph.add_node("text", **_described(text_encoder, text))
    graph.add_node("teacher", **_described(unet, x))
    graph.add_node("generator", **_described(unet, x), timestep=call.args[1])
    graph.add_node("metric", **_described(metric, x), backbone=type(vgg).__name__, preset=preset, taps=taps)
    graph.add_node("decoder", **_described(vae.decoder, decoded))
    graph.add_node("discriminator", **discriminator.graph, logits=[shape for _, shape in readouts(discriminator)])
    for name in ("z", "x", "x_hat"):
        graph.add_node(name, shape=_shape(x))
    graph.add_edges_from([("prompt", "text"), ("text", "teacher"), ("text", "generator"), ("text", "discriminator")])
    graph.add_edges_from([("z", "teacher"), ("z", "generator"), *([("z", "discriminator")] if z_conditioning else [])])
    graph.add_edges_from([("teacher", "x"), ("x", "metric"), ("x", "discriminator")])
    graph.add_edges_from(
        [("generator", "x_hat"), ("x_hat", "metric"), ("x_hat", "discriminator"), ("x_hat", "decoder")]
    )
    return graph


def trace_teacher_discriminator(path: str, z_conditioning: bool, multi_scale: bool) -> nx.DiGraph:
    """Figure 5: the discriminator that starts as the teacher at `path`. Raises UserError if there is no pipeline."""
    tokens = _settings(CLIPTextConfig.from_pretrained, path, "text_encoder").max_position_embeddings
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_settings(UNet2DConditionModel.load_config, path, "unet"))
    return trace_discriminator(unet, tokens, z_conditioning, multi_scale)


def trace_discriminator(unet: UNet2DConditionModel, tokens: int, z_conditioning: bool, multi_scale: bool) -> nx.DiGraph:
    """The discriminator that starts as a `unet` on the meta device, run on a text of some tokens.

    Nodes: `x`, `z` and `resized x i` (inputs), `text`, `stem`, `encoder i`, `middle`, `decoder i`, and `before decoder
    i`, `at …`, `after …` (readouts). A skip connection has the number of `skips`. Edges come from the forward pass.
    """
    with torch.device("meta"), torch.no_grad():
        discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning, multi_scale)
        x, z, conditions = _latent(unet), _latent(unet), _conditions(unet, tokens)
        unet = discriminator.unet
        modules = {"stem": unet.conv_in, "middle": unet.mid_block, "z": discriminator.z_in}
        modules |= {f"encoder {i}": block for i, block in enumerate(unet.down_blocks)}
        modules |= {f"decoder {i}": block for i, block in enumerate(unet.up_blocks)}
        modules |= {f"resized x {i}": entry for i, entry in enumerate(discriminator.x_in, start=1)}
        modules |= {f"readout {i}": readout for i, readout in enumerate(discriminator.readouts)}
        calls = _calls(modules, lambda: discriminator(x, z, **conditions))

    encoder, decoder, read = (
        [name for name in calls if name.startswith(part)] for part in ("encoder", "decoder", "readout")
    )
    middle = [name for name in calls if name == "middle"]  # none in a U-Net without a middle block
    graph = nx.DiGraph(**_described(discriminator, x), timestep=TIMESTEP)
    graph.add_node("x", shape=_shape(x))
    graph.add_node("text", shape=_shape(conditions["text_embeddings"]))
    for name in ("stem", *encoder, *middle, *decoder):
        graph.add_node(name, **_described(calls[name].module, _features(calls[name].output)))
        if calls[name].kwargs.get("encoder_hidden_states") is not None:
            graph.add_edge("text", name)
    nx.add_path(graph, ["x", "stem", *encoder, *middle, *decoder])
    for name in calls.keys() - {"stem", "middle", *encoder, *decoder, *read}:
        graph.add_node(name, shape=_shape(calls[name].args[0]))
        graph.add_edge(name, "encoder 0" if name == "z" else f"encoder {name.split()[-1]}")

    source = {id(tensor): name for name in encoder for tensor in calls[name].output[1]}
    # x is merged behind a block: the next block and the skip connection read the sum
    source |= {id(calls[after].args[0]): name for name, after in zip(encoder, encoder[1:], strict=False)}
    for name in decoder:
        before, skips = calls[name].args[:2]
        graph.add_edge(source[id(skips[-1])], name, skips=len(skips))
        for place, features in {"before": before, "at": skips[-1], "after": calls[name].output}.items():
            for readout in (calls[each] for each in read if calls[each].args[0] is features):
                described = _described(readout.module, readout.output)
                graph.add_node(f"{place} {name}", place=place, features=_shape(features), **described)
                graph.add_edge(name, f"{place} {name}")
    return graph


def readouts(graph: nx.DiGraph) -> list[tuple[str, tuple]]:
    """The readouts of a discriminator and the shapes of their logits, coarse to fine."""
    return [(name, node["shape"]) for name, node in graph.nodes.items() if "place" in node]


def _latent(unet: UNet2DConditionModel) -> torch.Tensor:
    """An empty latent (1, C, h, w) of the size of the U-Net."""
    return torch.empty(1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size, device="meta")


def _conditions(unet: UNet2DConditionModel, tokens: int) -> dict[str, torch.Tensor]:
    """Empty conditions by the names of D's arguments, including the added ones of SDXL."""
    config = unet.config
    conditions = {"text_embeddings": torch.empty(1, tokens, config.cross_attention_dim)}
    if config.addition_embed_type == "text_time":
        ids = 6  # height and width of the original, of the crop's corner and of the target
        pooled = config.projection_class_embeddings_input_dim - ids * config.addition_time_embed_dim
        conditions |= {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, ids)}
    return {name: condition.to("meta") for name, condition in conditions.items()}


def _calls(modules: dict[str, nn.Module | None], run: Callable[[], object]) -> dict[str, SimpleNamespace]:
    """The module, args, kwargs and output of each module's call while `run` runs, in the order of `modules`."""
    calls = {}

    def keep(name: str) -> Callable:
        def hook(module, args, kwargs, output):
            calls[name] = SimpleNamespace(module=module, args=args, kwargs=kwargs, output=output)

        return hook

    present = {name: module for name, module in modules.items() if module is not None}
    handles = [module.register_forward_hook(keep(name), with_kwargs=True) for name, module in present.items()]
    run()
    for handle in handles:
        handle.remove()
    return {name: calls[name] for name in present if name in calls}


def _described(module: nn.Module, output: torch.Tensor) -> dict:
    weights = sum(weight.numel() for weight in module.parameters())
    return {"module": type(module).__name__, "weights": weights, "shape": _shape(output)}


def _features(output: torch.Tensor | tuple) -> torch.Tensor:
    """The features of a block at its own resolution: an encoder block also returns them downsampled."""
    return output[1][0] if isinstance(output, tuple) else output


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape[1:])


def _settings(read: Callable, path: str, part: str):
    """The settings of a part of a pipeline."""
    try:
        return read(path, subfolder=part)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"'{path}' has no settings of its {part}, give a diffusers pipeline: {reason}") from error
