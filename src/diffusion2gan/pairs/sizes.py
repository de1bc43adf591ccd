"""The number of pairs in a shard, and their size on disk. This module does not import torch."""

import math
from collections.abc import Sequence


def shard_range(shard: int, shards: int, count: int) -> range:
    """The pairs of one shard: `count` pairs in `shards` nearly equal, contiguous parts."""
    return range(count * shard // shards, count * (shard + 1) // shards)


def bytes_of(pairs: int, shape: Sequence[int]) -> int:
    """Bytes on disk of `pairs` pairs with latents of a shape: an fp16 latent, a seed and a prompt id each."""
    return pairs * (2 * math.prod(shape) + 16)
