"""Optimizer steps that are cheap to prepare for sharded weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch


@contextmanager
def weight_by_weight() -> Iterator[None]:
    """Clip gradients and step AdamW one weight after the other.

    The first operation on a list of sharded weights takes a CPU up to half a minute, in which DTensor plans it.
    The same operations on single weights are planned at once, and the results are equal but for rounding.
    """
    clip, adamw = torch.nn.utils.clip_grad_norm_, torch.optim.AdamW

    def single(*args, **options):
        return adamw(*args, **options | {"fused": False, "foreach": False})

    with (
        patch.object(torch.nn.utils, "clip_grad_norm_", partial(clip, foreach=False)),
        patch.object(torch.optim, "AdamW", single),
    ):
        yield
