"""Moving the pixels of a latent by an affine map, without losing its high frequencies.

Sampling between pixels is a low-pass filter. The authors' E-LatentLPIPS package, like ADA (Karras et al. 2020,
App. B.2), first doubles the resolution with a wavelet filter, samples there, and halves it again.
"""

from contextlib import contextmanager
from functools import cache
from typing import get_args

import torch
from torch.nn import functional as F

from diffusion2gan.choices import RESAMPLING, Resampling

RESAMPLINGS = get_args(Resampling)
# The low-pass filter of the least asymmetric wavelet with six vanishing moments (Daubechies, "Ten Lectures on
# Wavelets", 1992, Table 6.3), with the sum √2.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
BORDER = len(SYM6) // 4  # pixels around the output that its last filter reads


def warp(x: torch.Tensor, maps: torch.Tensor, resampling: str = RESAMPLING) -> torch.Tensor:
    """Move the pixels of x (N, C, s, s) by affine maps (N, 3, 3), with one of `RESAMPLINGS`; in the dtype of x."""
    from kornia.geometry.transform import warp_affine  # here, because importing kornia takes two seconds

    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    with torch.autocast(x.device.type, enabled=False), _no_tf32():  # both would round the sampling coordinates
        if resampling == "wavelet":
            return _band_limited(wide, maps).to(x.dtype)
        moved = warp_affine(
            wide, maps[:, :2].to(wide), x.shape[2:], resampling, padding_mode="reflection", align_corners=False
        )
    return moved.to(x.dtype)


def _band_limited(x: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Filter to twice the resolution, sample bilinearly there, filter back (Karras et al. 2020, App. B.2).

    A matrix for each axis doubles the resolution and mirrors x at its edges, by its own side. Beyond that are zeros.
    Another matrix halves the resolution.
    """
    from kornia.geometry.transform import warp_affine

    side = x.shape[-1]
    up, down = _upsampling(side, x.dtype, x.device), _downsampling(side, x.dtype, x.device)
    enter, leave = _doubling(side - 1), _doubling(BORDER).inverse()
    moved = warp_affine(
        up @ x @ up.T, (leave.inverse() @ maps @ enter.inverse())[:, :2].to(x), [2 * (side + 2 * BORDER)] * 2,
        padding_mode="zeros", align_corners=False,
    )  # fmt: skip
    return down @ moved @ down.T


def _doubling(margin: int) -> torch.Tensor:
    """The map (3, 3) of a pixel to its place at twice the resolution, after a margin of pixels is added.

    Pixel p is at 2p, the middle of the filter's energy, so that a flip shifts nothing.
    """
    return torch.tensor([[2, 0, 2 * margin], [0, 2, 2 * margin], [0, 0, 1]], dtype=torch.float64)


@cache
@torch.inference_mode(False)  # a matrix cached during an evaluation is also used by a later training
def _upsampling(side: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The matrix (2 (3 side - 2), side) that mirrors a signal at both ends and doubles its resolution."""
    mirrored = F.pad(torch.eye(side, dtype=torch.float64), (side - 1, side - 1), mode="reflect").T
    return (2 * _filters(len(mirrored), 2 * len(mirrored), 5).T @ mirrored).to(device, dtype)


@cache
@torch.inference_mode(False)
def _downsampling(side: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The matrix (side, 2 (side + 2 BORDER)) that halves the resolution and leaves the border out."""
    return _filters(side, 2 * (side + 2 * BORDER), -1).to(device, dtype)


def _filters(rows: int, columns: int, offset: int) -> torch.Tensor:
    """A matrix with the filter, of sum 1, in every row, two columns further each: row i begins at 2 i - offset."""
    taps = torch.arange(columns) - 2 * torch.arange(rows)[:, None] + offset
    values = torch.tensor(SYM6, dtype=torch.float64)
    inside = (taps >= 0) & (taps < len(SYM6))
    return torch.where(inside, (values / values.sum())[taps.clamp(0, len(SYM6) - 1)], 0.0)


@contextmanager
def _no_tf32():
    """Multiply float32 matrices exactly, even if a training allows TF32. The backward pass, outside, may use TF32."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # the precision was set by torch's newer switch, which the older functions do not read
        matmul = torch.backends.cuda.matmul
        before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
        try:
            yield
        finally:
            matmul.fp32_precision = before
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
