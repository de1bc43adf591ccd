"""CUDA's autocast on the CPU: the same operators run in float32, so the same tensors are kept for the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# CUDA's autocast runs these in bfloat16, or in the widest type of their inputs; all others that it knows in float32
NOT_FLOAT32 = set(
    """_convolution convolution cudnn_convolution cudnn_convolution_transpose _scaled_dot_product_flash_attention einsum
    mv addmv addr chain_matmul linalg_multi_dot dot vdot gru_cell lstm_cell rnn_relu_cell rnn_tanh_cell
    _thnn_fused_gru_cell _thnn_fused_lstm_cell addcdiv addcmul atan2 bilinear cross index_put scatter_add
    tensordot""".split()
)


@contextmanager
def cuda_autocast() -> Iterator[None]:
    """While it lasts, autocast on the CPU treats every operator as autocast on CUDA does."""
    library = torch.library.Library("aten", "IMPL")
    try:
        for name in torch._C._dispatch_get_all_op_names():
            space, _, operator = name.partition("::")
            if space != "aten":
                continue
            on_cpu, on_cuda = (
                torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in ("AutocastCPU", "AutocastCUDA")
            )
            if on_cpu and not on_cuda:
                library.impl(operator, torch.library.fallthrough_kernel, "AutocastCPU", allow_override=True)
            if on_cuda and not on_cpu and operator.partition(".")[0] not in NOT_FLOAT32:
                library.impl(operator, _in_float32(operator), "AutocastCPU")
        yield
    finally:
        library._destroy()


def _in_float32(operator: str):
    """A kernel that runs an operator in float32 if its inputs are 16 bits wide."""
    name, _, overload = operator.partition(".")
    call = getattr(getattr(torch.ops.aten, name), overload or "default")
    has_dtype = any(argument.name == "dtype" for argument in call._schema.arguments)
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def kernel(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            if has_dtype and kwargs.get("dtype") is None and _is_short(args[0]):
                return call(*args, **kwargs, dtype=torch.float32)
            return call(*(each.float() if _is_short(each) else each for each in args), **kwargs)

    return kernel


def _is_short(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
