"""Autocast on the CPU as on CUDA: which operators run in float32."""

import torch
from torch.nn import functional as F

from diffusion2gan.memory.cuda import cuda_autocast


def kinds() -> dict[str, torch.dtype]:
    x = torch.randn(1, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        h = F.conv2d(x, torch.randn(4, 4, 3, 3))
        return {
            "convolution": h.dtype,
            "group_norm": F.group_norm(h, 2).dtype,
            "layer_norm": F.layer_norm(h, h.shape[-1:]).dtype,
            "nearest": F.interpolate(h, scale_factor=2.0).dtype,
            "sum": h.sum().dtype,
            "softmax": h.softmax(1).dtype,
            "reflection": F.pad(h, (1, 1, 1, 1), mode="reflect").dtype,
        }


def test_norms_and_sums_run_in_float32_as_on_cuda_and_afterwards_no_more():
    """As the lists in torch's documentation of autocast say for CUDA; reflection padding is in none of them."""
    before = kinds()
    with cuda_autocast():
        assert kinds() == dict.fromkeys(before, torch.float32) | {
            "convolution": torch.bfloat16,
            "reflection": torch.bfloat16,
        }
    assert kinds() == before and before["group_norm"] == torch.bfloat16
