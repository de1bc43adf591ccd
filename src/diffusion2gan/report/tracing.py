"""Networks as they are: built without weights of a teacher's settings, traced through a forward pass (Figs. 4, 5).

Everything is on the meta device: classes, numbers of weights and shapes are those of the real networks, at no cost.
Shapes are of one sample.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

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

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Traced:
    """A module: its class, its number of weights, and the shape of what it gave."""

    kind: str
    weights: int
    shape: Shape


@dataclass(frozen=True)
class Block(Traced):
    """A block of a U-Net: the shape is of its features at its own resolution; `attends` says whether it reads text."""

    attends: bool


@dataclass(frozen=True)
class EncoderBlock(Block):
    """`entry` is the shape of the resized x that joins what it reads, None where none does."""

    entry: Shape | None


@dataclass(frozen=True)
class Readout:
    """Where the features that it reads lie about the skip connection, their shape, and that of its logits."""

    place: str
    features: Shape
    logits: Shape


@dataclass(frozen=True)
class DecoderBlock(Block):
    """How many skip connections it reads, the encoder block (from 0) that the last is from, and what reads it out."""

    skips: int
    level: int
    readouts: tuple[Readout, ...]


@dataclass(frozen=True)
class TracedDiscriminator(Traced):
    """D(x, z, c) at its timestep; the shape is of x. `z` is None where D does not see the noise.

    `stem` is the first convolution; blocks are in the order in which they run.
    """

    z: Shape | None
    text: Shape
    timestep: int
    stem: Traced
    encoder: tuple[EncoderBlock, ...]
    middle: Block
    decoder: tuple[DecoderBlock, ...]

    @property
    def readouts(self) -> list[Readout]:
        """All of them, coarse to fine."""
        return [readout for block in self.decoder for readout in block.readouts]


@dataclass(frozen=True)
class TracedMetric(Traced):
    """E-LatentLPIPS; the shape is of the latents that it compares, `taps` of the features in which it does."""

    trunk: str
    preset: str
    taps: tuple[Shape, ...]


@dataclass(frozen=True)
class Overview:
    """All that Figure 4 shows: the student G at its timestep, and what stands around it."""

    text_encoder: Traced
    generator: Traced
    timestep: int
    metric: TracedMetric
    discriminator: TracedDiscriminator
    decoder: Traced


def overview(path: str, preset: str, width: float, z_conditioning: bool, multi_scale: bool) -> Overview:
    """The networks of a study whose teacher is the pipeline at `path`, a folder or a hub id.

    `preset` is of the ensemble, `width` of the metric's trunk. Raises UserError when there is no such pipeline.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_settings(UNet2DConditionModel.load_config, path, "unet"))
        text_encoder = CLIPTextModel(_settings(CLIPTextConfig.from_pretrained, path, "text_encoder"))
        vae = AutoencoderKL.from_config(_settings(AutoencoderKL.load_config, path, "vae"))
    generator = Generator(unet, DDIMScheduler.from_config(_settings(DDIMScheduler.load_config, path, "scheduler")))
    tokens = text_encoder.config.max_position_embeddings
    with torch.device("meta"), torch.no_grad():
        z, text = latent(unet), text_encoder(torch.zeros(1, tokens, dtype=torch.long)).last_hidden_state
        drawn = calls({"unet": unet}, lambda: generator(z, text))["unet"]
        x = drawn.output.sample
        decoded = calls({"decoder": vae.decoder}, lambda: vae.decode(x))["decoder"]
    return Overview(
        text_encoder=traced(text_encoder, text),
        generator=traced(unet, x),
        timestep=drawn.args[1],
        metric=trace_metric(x, preset, width),
        discriminator=trace_discriminator(unet, tokens, z_conditioning, multi_scale),
        decoder=traced(vae.decoder, decoded.output),
    )


def discriminator(path: str, z_conditioning: bool, multi_scale: bool) -> TracedDiscriminator:
    """The diffusion discriminator that starts as the teacher at `path`. Raises UserError when there is none."""
    tokens = _settings(CLIPTextConfig.from_pretrained, path, "text_encoder").max_position_embeddings
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_settings(UNet2DConditionModel.load_config, path, "unet"))
    return trace_discriminator(unet, tokens, z_conditioning, multi_scale)


def trace_metric(x: torch.Tensor, preset: str, width: float) -> TracedMetric:
    """E-LatentLPIPS on latents like x."""
    trunk = VGG("latent", x.shape[1], classes=0, width=width)
    loss = ELatentLPIPS(LPIPS(trunk, [torch.ones(each) for each in trunk.widths]), Ensemble(preset))
    taps = loss.metric.to("meta").trunk.features(x)
    of_loss = traced(loss, x)
    return TracedMetric(**vars(of_loss), trunk=type(trunk).__name__, preset=preset, taps=tuple(map(_shape, taps)))


def trace_discriminator(
    unet: UNet2DConditionModel, tokens: int, z_conditioning: bool, multi_scale: bool
) -> TracedDiscriminator:
    """The diffusion discriminator that starts as a `unet` on the meta device, as a text of some tokens goes through it.

    Which tensor goes where is taken from the pass: of a skip connection and of a readout, whose it is.
    """
    with torch.device("meta"), torch.no_grad():
        discriminator = DiffusionDiscriminator.from_teacher(unet, z_conditioning, multi_scale)
        x, z, conditions = latent(unet), latent(unet), conditions_of(unet, tokens)
        unet = discriminator.unet
        lists = {
            "down": unet.down_blocks, "up": unet.up_blocks, "x_in": discriminator.x_in,
            "readout": discriminator.readouts,
        }  # fmt: skip
        modules = {(name, number): module for name, each in lists.items() for number, module in enumerate(each)}
        modules |= {"stem": unet.conv_in, "z_in": discriminator.z_in, "mid": unet.mid_block}
        met = calls(modules, lambda: discriminator(x, z, **conditions))
    down, up, x_in, readouts = ([met[name, number] for number in range(len(each))] for name, each in lists.items())

    whose = {id(tensor): number for number, call in enumerate(down) for tensor in call.output[1]}
    # where x is merged behind a block, its skip connection is what the next block reads
    whose |= {id(call.args[0]): number for number, call in enumerate(down[1:])}
    entries = [None, *(_shape(call.args[0]) for call in x_in)]
    return TracedDiscriminator(
        **vars(traced(discriminator, x)),
        z=_shape(met["z_in"].args[0]) if "z_in" in met else None,
        text=_shape(conditions["text_embeddings"]),
        timestep=TIMESTEP,
        stem=traced(unet.conv_in, met["stem"].output),
        encoder=tuple(
            EncoderBlock(**vars(traced(call.module, call.output[1][0])), attends=call.attends, entry=entry)
            for call, entry in zip_longest(down, entries[: len(down)])
        ),
        middle=Block(**vars(traced(unet.mid_block, met["mid"].output)), attends=met["mid"].attends),
        decoder=tuple(
            DecoderBlock(
                **vars(traced(call.module, call.output)),
                attends=call.attends,
                skips=len(call.args[1]),
                level=whose[id(call.args[1][-1])],
                readouts=tuple(_readouts_of(call, readouts)),
            )
            for call in up
        ),
    )


def latent(unet: UNet2DConditionModel) -> torch.Tensor:
    """A latent (1, C, h, w) of the U-Net's own size, of no content."""
    return torch.empty(1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size, device="meta")


def conditions_of(unet: UNet2DConditionModel, tokens: int) -> dict[str, torch.Tensor]:
    """Conditions of no content, by the names that G and D take them; of SDXL the added ones too."""
    config = unet.config
    conditions = {"text_embeddings": torch.empty(1, tokens, config.cross_attention_dim)}
    if config.addition_embed_type == "text_time":
        ids = 6  # height and width, of the original, of the crop's corner and of the target
        pooled = config.projection_class_embeddings_input_dim - ids * config.addition_time_embed_dim
        conditions |= {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, ids)}
    return {name: condition.to("meta") for name, condition in conditions.items()}


@dataclass
class Call:
    """What a module was called with, and what it gave."""

    module: nn.Module
    args: tuple
    kwargs: dict
    output: object

    @property
    def attends(self) -> bool:
        """Whether the text was among it."""
        return self.kwargs.get("encoder_hidden_states") is not None


def calls(modules: dict, run: Callable[[], object]) -> dict:
    """The call of each module, by its name, while `run` runs; modules that are None or not called are left out."""
    met = {}

    def hook(name):
        def keep(module, args, kwargs, output):
            met[name] = Call(module, args, kwargs, output)

        return keep

    handles = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in modules.items()
        if module is not None
    ]
    run()
    for handle in handles:
        handle.remove()
    return met


def traced(module: nn.Module, given: torch.Tensor) -> Traced:
    """A module that gave a tensor (1, …)."""
    return Traced(type(module).__name__, sum(weight.numel() for weight in module.parameters()), _shape(given))


def _readouts_of(block: "Call", readouts: list["Call"]) -> Iterator[Readout]:
    """Those that read what goes into a decoder block, its last skip connection, or what comes out."""
    places = {"before": block.args[0], "at": block.args[1][-1], "after": block.output}
    for readout in readouts:
        for place, features in places.items():
            if readout.args[0] is features:
                yield Readout(place, _shape(features), _shape(readout.output))


def _shape(tensor: torch.Tensor) -> Shape:
    return tuple(tensor.shape[1:])


def _settings(read: Callable, path: str, part: str):
    """The settings of a part of a pipeline."""
    try:
        return read(path, subfolder=part)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"'{path}' says nothing of its {part}, give a diffusers pipeline: {reason}") from error
