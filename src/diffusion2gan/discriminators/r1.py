"""Single-sample R1: a gradient penalty at a real latent that needs little memory (Sec. 3.3)."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


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

    x and z are (N, C, h, w), `text_embeddings` (N, T, D). R1 is from Mescheder et al., ICML 2018; because it is applied
    only every `every` steps, it is scaled by `every` (Karras et al., CVPR 2020). D(x, z, c) is the sum of all logits,
    over locations and heads, as in LaMa (Suvorov et al., WACV 2022).  # ours
    Batches are shuffled, so the first sample is a random one. Everything is computed in float32 or wider (in TF32 where
    the training allows it), because second derivatives are too inaccurate in bfloat16.

    With v = ∇ₓD held constant, ½‖∇ₓD‖² has the same gradient to the weights as the derivative of D along v. That is a
    forward pass of pairs (value, derivative), so the U-Net's blocks can be recomputed in its backward pass.
    Differentiating a backward pass instead would keep all of it, 63 GiB for SDXL, even with checkpointing.
    """
    x, z, text_embeddings = (_first(tensor).detach() for tensor in (x, z, text_embeddings))
    added = {name: _first(condition) for name, condition in added.items()}

    def score(latents: torch.Tensor) -> torch.Tensor:
        return sum(head.sum() for head in discriminator(latents, z, text_embeddings, **added))

    with _exactly(x.device), _checkpointed(discriminator):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(score(x), x)
        with dual_level():
            along = unpack_dual(score(make_dual(x.detach(), gradient))).tangent  # = ‖gradient‖²
    return every * gamma * (along - gradient.square().sum() / 2)


@contextmanager
def _exactly(device: torch.device):
    """No autocast, and only operators whose forward derivative has a backward pass (in torch 2.13; tests check it).

    The fused attention kernels have no forward derivative, so attention runs in plain operators.
    """
    float32, math = torch.autocast(device.type, enabled=False), sdpa_kernel(SDPBackend.MATH)
    with float32, math, _OutOfPlace(), _LayerNormAsGroupNorm():
        yield


class _OutOfPlace(TorchDispatchMode):
    """While any mode is active, torch computes forward derivatives out of place.

    Otherwise the derivative of softmax overwrites a tensor that its backward pass reads.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class _LayerNormAsGroupNorm(TorchFunctionMode):
    """Layer norm as group norm with one group: torch treats mean and variance as constants in its derivative."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (_layer_norm if func is F.layer_norm else func)(*args, **(kwargs or {}))


def _layer_norm(x: torch.Tensor, shape: list[int], weight=None, bias=None, eps: float = 1e-5) -> torch.Tensor:
    return F.group_norm(x.flatten(0, -2), 1, weight, bias, eps).view_as(x)


@contextmanager
def _checkpointed(module: nn.Module):
    """Recompute the blocks of a diffusers U-Net in the backward pass, as `_recomputed` does."""
    blocks = [block for block in module.modules() if hasattr(block, "gradient_checkpointing")]
    before = [(block.gradient_checkpointing, getattr(block, "_gradient_checkpointing_func", None)) for block in blocks]
    for block in blocks:
        block.gradient_checkpointing, block._gradient_checkpointing_func = True, _recomputed
    try:
        yield
    finally:
        for block, (wanted, function) in zip(blocks, before, strict=True):
            block.gradient_checkpointing, block._gradient_checkpointing_func = wanted, function


def _recomputed(block: nn.Module, *inputs: torch.Tensor | None) -> torch.Tensor:
    """The block's output, recomputed in the backward pass with the same kernels, weights and derivatives.

    torch's `checkpoint` would keep the derivative of everything that the block's backward pass reads.
    """
    pairs = [unpack_dual(each) if isinstance(each, torch.Tensor) else (each, None) for each in inputs]
    values, derivatives = zip(*pairs, strict=True)
    # the weights of this call: `functional_call` may have replaced them. Without derivatives, only x needs a gradient
    second = any(derivative is not None for derivative in derivatives)
    weights = {name: weight if second else weight.detach() for name, weight in block.named_parameters()}

    def run(*given: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        pairs = zip(given[: len(inputs)], given[len(inputs) : 2 * len(inputs)], strict=True)
        duals = tuple(value if derivative is None else make_dual(value, derivative) for value, derivative in pairs)
        here = dict(zip(weights, given[2 * len(inputs) :], strict=True))
        with _exactly(inputs[0].device):
            return tuple(unpack_dual(torch.func.functional_call(block, here, duals)))

    given = (*values, *derivatives, *weights.values())
    with torch.no_grad():
        outputs = run(*given)
    value, derivative = _Recomputation.apply(run, outputs, *given)
    return value if derivative is None else make_dual(value, derivative)


class _Recomputation(torch.autograd.Function):
    """Gives the outputs of `run` as they are, and runs it again for their gradient."""

    @staticmethod
    def forward(ctx, run, outputs, *given):
        ctx.run = run
        ctx.save_for_backward(*given)
        return outputs

    @staticmethod
    def backward(ctx, *gradients):
        wanted = ctx.needs_input_grad[2:]
        given = [
            None if each is None else each.detach().requires_grad_(needed)
            for each, needed in zip(ctx.saved_tensors, wanted, strict=True)
        ]
        with torch.enable_grad(), dual_level():
            outputs = ctx.run(*given)
        asked = [each for each, needed in zip(given, wanted, strict=True) if needed]
        value, derivative = outputs
        outputs, gradients = (outputs, gradients) if derivative is not None else ([value], gradients[:1])
        found = iter(torch.autograd.grad(outputs, asked, gradients, allow_unused=True))
        return None, None, *(next(found) if needed else None for needed in wanted)


def _first(batch: torch.Tensor) -> torch.Tensor:
    return batch[:1].to(torch.promote_types(batch.dtype, torch.float32))
