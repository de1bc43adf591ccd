"""The conditional diffusion discriminator: a U-Net initialised from the teacher (Sec. 3.3, Fig. 5)."""

import copy
from collections.abc import Sequence
from itertools import zip_longest

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

TIMESTEP = 0  # ours: the timestep of a latent without noise


class DiffusionDiscriminator(nn.Module):
    """D(x, z, c): a U-Net initialised from the teacher, with a logit at every location.

    `z_conditioning` adds the noise z to the input features through a zero-initialised convolution.
    `multi_scale` adds the resized x to the features between the encoder's blocks, also through
    zero-initialised convolutions, and predicts logits at every scale of the decoder from three features: the
    skip feature, the upsampled feature before the skip is concatenated, and the output of the block. Without
    it, logits come from the decoder's last features alone. Without a middle block, the skip feature
    equals the feature before it at the coarsest scale. At initialisation the backbone computes exactly
    what the teacher's U-Net computes.
    """

    def __init__(self, unet: UNet2DConditionModel, z_conditioning: bool, multi_scale: bool):
        super().__init__()
        self.unet = unet
        self.multi_scale = multi_scale
        latent = unet.config.in_channels
        unet.conv_norm_out = unet.conv_out = None  # the readouts replace them
        # in Fig. 5 the logits of a scale come before its upsampling, so `features` upsamples
        self.upsamplers = nn.ModuleList(block.upsamplers[0] for block in unet.up_blocks[:-1])
        for block in unet.up_blocks:
            block.upsamplers = None

        self.z_in = _zero_conv(latent, unet.conv_in.out_channels) if z_conditioning else None
        deeper = [block.resnets[-1].out_channels for block in unet.down_blocks[:-1]] if multi_scale else []
        self.x_in = nn.ModuleList(_zero_conv(latent, channels) for channels in deeper)

        before, widths = bottleneck_width(unet), []
        for block in unet.up_blocks:
            combined = block.resnets[-1].out_channels
            widths.append((block.resnets[0].in_channels - before, before, combined))
            before = combined
        read = [width for scale in widths for width in scale] if multi_scale else [before]
        self.readouts = nn.ModuleList(readout(width, unet.config.norm_num_groups) for width in read)

    @classmethod
    def from_teacher(
        cls, teacher_unet: UNet2DConditionModel, z_conditioning: bool, multi_scale: bool
    ) -> "DiffusionDiscriminator":
        """A trainable float32 discriminator with a copy of the teacher's weights."""
        return cls(copy.deepcopy(teacher_unet).float(), z_conditioning, multi_scale).requires_grad_(True).train()

    def forward(
        self,
        x: torch.Tensor,
        z: torch.Tensor,
        text_embeddings: torch.Tensor,
        timesteps: int | torch.Tensor = TIMESTEP,
        **added: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Logit maps (N, 1, h', w'), coarse to fine; positive means real. `timesteps` (N,) are those of noisy x."""
        scales = self.features(x, z, text_embeddings, timesteps, **added)
        read = [feature for scale in scales for feature in scale] if self.multi_scale else [scales[-1][-1]]
        return [readout(feature) for readout, feature in zip(self.readouts, read, strict=True)]

    def features(
        self,
        x: torch.Tensor,
        z: torch.Tensor,
        text_embeddings: torch.Tensor,
        timesteps: int | torch.Tensor = TIMESTEP,
        **added: torch.Tensor,
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """For each decoder scale, coarse to fine: skip feature, feature before the block, output of the block."""
        time = time_embedding(self.unet, x, text_embeddings, timesteps, added)
        first = None if self.z_in is None else self.z_in(z)
        h, skips = encode(self.unet, x, text_embeddings, time, first, self.x_in)

        scales = []
        for block, upsampler in zip_longest(self.unet.up_blocks, self.upsamplers):
            count = len(block.resnets)
            skips_here, skips = tuple(skips[-count:]), skips[:-count]
            before = h
            h = block(before, skips_here, temb=time, **_attended(block, text_embeddings))
            scales.append((skips_here[-1], before, h))
            if upsampler is not None:
                h = upsampler(h, skips[-1].shape[-2:])
        return scales


class EncoderDiscriminator(nn.Module):
    """D(x_s, x_t, c) of SDXL-Lightning (Lin et al. 2024): the teacher's encoder and middle block, and a small head.

    The latent x_s, and x_t that it was made from, pass through the same weights. The head takes both features. Without
    x_t, zeros take their place, so that one network serves both phases of a training.                     # ours
    """

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.unet = unet
        unet.conv_norm_out = unet.conv_out = None
        unet.up_blocks = nn.ModuleList()
        width = bottleneck_width(unet)
        self.head = nn.Sequential(
            nn.Conv2d(2 * width, width, 4, stride=2, padding=1),
            nn.GroupNorm(unet.config.norm_num_groups, width),
            nn.SiLU(),
            nn.Conv2d(width, 1, 1),  # a logit at each location                                          # ours
        )

    @classmethod
    def from_teacher(cls, teacher_unet: UNet2DConditionModel) -> "EncoderDiscriminator":
        """A trainable float32 discriminator with a copy of the teacher's weights."""
        return cls(copy.deepcopy(teacher_unet).float()).requires_grad_(True).train()

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        origin: tuple[torch.Tensor, torch.Tensor] | None,
        text_embeddings: torch.Tensor,
        **added: torch.Tensor,
    ) -> list[torch.Tensor]:
        """A logit map (N, 1, h', w'), in a list; positive means real. `origin` is x_t and its timesteps, or None."""
        conditions = {"text_embeddings": text_embeddings, **added}
        if origin is None:
            features = self.features(x, timesteps, **conditions)
            return [self.head(torch.cat([features, torch.zeros_like(features)], 1))]
        both = {name: torch.cat([each, each]) for name, each in conditions.items()}
        features = self.features(torch.cat([x, origin[0]]), torch.cat([timesteps, origin[1]]), **both)
        return [self.head(torch.cat(features.chunk(2), 1))]

    def features(
        self, x: torch.Tensor, timesteps: torch.Tensor, text_embeddings: torch.Tensor, **added: torch.Tensor
    ) -> torch.Tensor:
        """The teacher's bottleneck (N, C', h, w) for latents x (N, C, h, w) at timesteps (N,)."""
        time = time_embedding(self.unet, x, text_embeddings, timesteps, added)
        return encode(self.unet, x, text_embeddings, time)[0]


def time_embedding(
    unet: UNet2DConditionModel,
    x: torch.Tensor,
    text: torch.Tensor,
    timesteps: int | torch.Tensor,
    added: dict[str, torch.Tensor],
) -> torch.Tensor:
    """A U-Net's embedding (N, E) of the timesteps and, for SDXL, of the added conditions."""
    time = unet.time_embedding(unet.get_time_embed(sample=x, timestep=timesteps))
    added = unet.get_aug_embed(emb=time, encoder_hidden_states=text, added_cond_kwargs=added)
    return time if added is None else time + added


def encode(
    unet: UNet2DConditionModel,
    x: torch.Tensor,
    text: torch.Tensor,
    time: torch.Tensor,
    first: torch.Tensor | None = None,
    x_in: Sequence[nn.Module] = (),
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The bottleneck (N, C', h', w') of a U-Net and the skip features.

    The bottleneck is the output of the middle block, or of the encoder in a U-Net without one.

    `first` is added to the input features of x (N, C, h, w). The layers `x_in` see the resized x; their outputs are
    added after each block of the encoder.
    """
    h = unet.conv_in(x)
    if first is not None:
        h = h + first
    skips = [h]
    for block, enter in zip_longest(unet.down_blocks, x_in):
        h, passed = block(h, temb=time, **_attended(block, text))
        skips.extend(passed)
        if enter is not None:
            h = h + enter(F.interpolate(x, h.shape[-2:], mode="area"))
            skips[-1] = h
    if unet.mid_block is None:
        return h, skips
    return unet.mid_block(h, temb=time, **_attended(unet.mid_block, text)), skips


def bottleneck_width(unet: UNet2DConditionModel) -> int:
    """The channels of a U-Net's bottleneck; its middle block, where it has one, keeps their number."""
    return unet.down_blocks[-1].resnets[-1].out_channels


def blocks(unet: UNet2DConditionModel) -> list[nn.Module]:
    """The blocks of a U-Net in order; small ones such as BK-SDM's (Kim et al. 2024) have none in the middle."""
    middle = [] if unet.mid_block is None else [unet.mid_block]
    return [*unet.down_blocks, *middle, *unet.up_blocks]


def _attended(block: nn.Module, text: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}


def _zero_conv(channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, out_channels, 3, padding=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


def readout(channels: int, groups: int) -> nn.Sequential:
    """Features → one logit for each location, through layers like the U-Net's own output.  # ours"""
    return nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, 1, 1))
