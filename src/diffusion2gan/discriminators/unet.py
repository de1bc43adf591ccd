"""The conditional diffusion discriminator: the teacher's U-Net judges each place of a latent (Sec. 3.3, Fig. 5)."""

import diffusion2gan._torchvision  # noqa: F401

import copy
from itertools import zip_longest

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

TIMESTEP = 0  # ours: the U-Net reads x as a latent without noise


class DiffusionDiscriminator(nn.Module):
    """D(x, z, c): a U-Net initialised from the teacher, with logits at every location.

    `z_conditioning` adds the noise z to the input features through one zero-initialised convolution.
    `multi_scale` merges the resized x into the trunk between the encoder's blocks, again through
    zero-initialised convolutions, and reads the decoder out at three places of every scale: the skip
    feature, the upsampled trunk before it meets the skip, and both combined. Without it the last
    decoder features are the only readout. So at initialisation the trunk is the teacher's own.
    """

    def __init__(self, unet: UNet2DConditionModel, z_conditioning: bool, multi_scale: bool):
        super().__init__()
        self.unet = unet
        self.multi_scale = multi_scale
        latent = unet.config.in_channels
        unet.conv_norm_out = unet.conv_out = None  # the readouts stand in their place
        # Fig. 5 reads each scale out before it is upsampled, so the walk below does the upsampling
        self.upsamplers = nn.ModuleList(block.upsamplers[0] for block in unet.up_blocks[:-1])
        for block in unet.up_blocks:
            block.upsamplers = None

        self.z_in = _zero_conv(latent, unet.conv_in.out_channels) if z_conditioning else None
        deeper = [block.resnets[-1].out_channels for block in unet.down_blocks[:-1]] if multi_scale else []
        self.x_in = nn.ModuleList(_zero_conv(latent, channels) for channels in deeper)

        trunk, widths = unet.mid_block.resnets[-1].out_channels, []
        for block in unet.up_blocks:
            combined = block.resnets[-1].out_channels
            widths.append((block.resnets[0].in_channels - trunk, trunk, combined))
            trunk = combined
        read = [width for scale in widths for width in scale] if multi_scale else [trunk]
        self.readouts = nn.ModuleList(_readout(width, unet.config.norm_num_groups) for width in read)

    @classmethod
    def from_teacher(
        cls, teacher_unet: UNet2DConditionModel, z_conditioning: bool, multi_scale: bool
    ) -> "DiffusionDiscriminator":
        """A trainable float32 discriminator with a copy of the teacher's weights."""
        return cls(copy.deepcopy(teacher_unet).float(), z_conditioning, multi_scale).requires_grad_(True).train()

    def forward(
        self, x: torch.Tensor, z: torch.Tensor, text_embeddings: torch.Tensor, **added: torch.Tensor
    ) -> list[torch.Tensor]:
        """Logit maps (N, 1, h', w'), coarse to fine; positive says real."""
        scales = self.features(x, z, text_embeddings, **added)
        places = [place for scale in scales for place in scale] if self.multi_scale else [scales[-1][-1]]
        return [readout(place) for readout, place in zip(self.readouts, places, strict=True)]

    def features(
        self, x: torch.Tensor, z: torch.Tensor, text_embeddings: torch.Tensor, **added: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """At each decoder scale, coarse to fine: the skip feature, the trunk before it, both combined."""
        unet = self.unet
        time = self._time_embedding(x, text_embeddings, added)
        trunk = unet.conv_in(x)
        if self.z_in is not None:
            trunk = trunk + self.z_in(z)

        skips = [trunk]
        for block, x_in in zip_longest(unet.down_blocks, self.x_in):
            trunk, passed = block(trunk, temb=time, **_attended(block, text_embeddings))
            skips.extend(passed)
            if x_in is not None:
                trunk = trunk + x_in(F.interpolate(x, trunk.shape[-2:], mode="area"))
                skips[-1] = trunk

        trunk = unet.mid_block(trunk, temb=time, **_attended(unet.mid_block, text_embeddings))

        scales = []
        for block, upsampler in zip_longest(unet.up_blocks, self.upsamplers):
            count = len(block.resnets)
            met, skips = tuple(skips[-count:]), skips[:-count]
            before = trunk
            trunk = block(before, met, temb=time, **_attended(block, text_embeddings))
            scales.append((met[-1], before, trunk))
            if upsampler is not None:
                trunk = upsampler(trunk, skips[-1].shape[-2:])
        return scales

    def _time_embedding(self, x: torch.Tensor, text: torch.Tensor, added: dict[str, torch.Tensor]) -> torch.Tensor:
        """The embedding of the fixed timestep and, for SDXL, of the added conditions."""
        time = self.unet.time_embedding(self.unet.get_time_embed(sample=x, timestep=TIMESTEP))
        added = self.unet.get_aug_embed(emb=time, encoder_hidden_states=text, added_cond_kwargs=added)
        return time if added is None else time + added


def _attended(block: nn.Module, text: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}


def _zero_conv(channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, out_channels, 3, padding=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


def _readout(channels: int, groups: int) -> nn.Sequential:
    """Features to one logit a location; the shape of the U-Net's own output layer.  # ours"""
    return nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, 1, 1))
