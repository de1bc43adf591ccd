"""How many pairs a shard holds, and what they take on the disk. It imports no torch."""

import math
from collections.abc import Sequence


def shard_range(shard: int, shards: int, count: int) -> range:
    """The pairs of one shard: `count` pairs in `shards` nearly equal, contiguous parts."""
    return range(count * shard // shards, count * (shard + 1) // shards)


def bytes_of(pairs: int, shape: Sequence[int]) -> int:
    """What pairs with latents of a shape take on the disk: an fp16 latent, a seed and a prompt's id each."""
    return pairs * (2 * math.prod(shape) + 16)
