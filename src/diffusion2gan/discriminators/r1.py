"""Single-sample R1: a gradient penalty at real latents that needs little memory (Sec. 3.3)."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def single_sample_r1(
    discriminator: nn.Module,
    x: torch.Tensor,
    z: torch.Tensor,
    text_embeddings: torch.Tensor,
    gamma: float,
    every: int,
    **added: torch.Tensor,
) -> torch.Tensor:
    """every · γ/2 · ‖∇ₓ D(x, z, c)‖² at the first real sample of the batch; a scalar.

    R1 is from Mescheder et al., ICML 2018; because it is applied only every `every` steps, it is scaled by
    `every` (Karras et al., CVPR 2020). D(x, z, c) is the mean of the logits over locations and heads, as in the
    loss.  # ours
    Batches are shuffled, so the first sample is a random one. Everything is computed in float32 or wider,
    because second derivatives are too inaccurate in lower precision.
    """
    x, z, text_embeddings = (_first(tensor).detach() for tensor in (x, z, text_embeddings))
    x.requires_grad_()
    added = {name: _first(condition) for name, condition in added.items()}
    # the fused attention kernels have no second derivative
    math_kernel, float32 = sdpa_kernel(SDPBackend.MATH), torch.autocast(x.device.type, enabled=False)
    with math_kernel, float32, _without_checkpointing(discriminator):
        logits = discriminator(x, z, text_embeddings, **added)
        score = torch.stack([head.mean() for head in logits]).mean()
        (gradient,) = torch.autograd.grad(score, x, create_graph=True)
    return every * gamma / 2 * gradient.square().sum()


@contextmanager
def _without_checkpointing(module: nn.Module):
    """Turn gradient checkpointing off: recomputed activations would not use the math attention kernel."""
    blocks = [block for block in module.modules() if getattr(block, "gradient_checkpointing", False)]
    for block in blocks:
        block.gradient_checkpointing = False
    try:
        yield
    finally:
        for block in blocks:
            block.gradient_checkpointing = True


def _first(batch: torch.Tensor) -> torch.Tensor:
    return batch[:1].to(torch.promote_types(batch.dtype, torch.float32))
