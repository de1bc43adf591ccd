"""CUDA's autocast on a CPU: what runs in which precision, and so what is kept for the backward pass.

The dispatcher knows which operators autocast converts on each device. For those where the two differ, the kernel of
the CPU's autocast is replaced by one that does what CUDA's does.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._pytree import tree_map_only

# torch/csrc and aten/src/ATen/autocast_mode.h: what CUDA runs in autocast's precision, and in the widest of its inputs
LOWER = {
    "_convolution", "convolution", "addmv", "addr", "chain_matmul", "cudnn_convolution", "cudnn_convolution_transpose",
    "einsum", "gru_cell", "linalg_multi_dot", "lstm_cell", "mv", "rnn_relu_cell", "rnn_tanh_cell",
    "_scaled_dot_product_flash_attention", "_thnn_fused_gru_cell", "_thnn_fused_lstm_cell",
}  # fmt: skip
WIDEST = {
    "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "scatter_add", "tensordot",
    "vdot",
}  # fmt: skip


@contextmanager
def cuda_autocast() -> Iterator[None]:
    """Inside, `torch.autocast("cpu")` converts the inputs that CUDA's autocast converts, and to the same types."""
    library = torch.library.Library("aten", "IMPL")
    try:
        for name in torch._C._dispatch_get_all_op_names():
            if not name.startswith("aten::"):
                continue
            on_cpu, on_cuda = (_has_kernel(name, key) for key in ("AutocastCPU", "AutocastCUDA"))
            if name == "aten::binary_cross_entropy":
                kernel = _refused
            elif on_cuda and (not on_cpu or name == "aten::grid_sampler"):
                kernel = _converted(name)
            elif on_cpu and not on_cuda:
                kernel = torch.library.fallthrough_kernel
            else:
                continue
            with warnings.catch_warnings(action="ignore"):  # that a kernel is replaced
                library.impl(name.removeprefix("aten::"), kernel, "AutocastCPU", allow_override=True)
        yield
    finally:
        library._destroy()


_has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


def _refused(*args, **kwargs):
    raise RuntimeError("binary_cross_entropy is unsafe to autocast on CUDA: use the one with logits")


def _converted(name: str):
    """A kernel that converts half and single precision inputs as CUDA's autocast does, and calls the operator."""
    base, _, overload = name.removeprefix("aten::").partition(".")
    operator = getattr(getattr(torch.ops.aten, base), overload or "default")

    def kernel(*args, **kwargs):
        if base in LOWER:
            to = torch.get_autocast_dtype("cpu")
        elif base in WIDEST:
            to = _widest(args)
        else:
            to = torch.float32
        args, kwargs = tree_map_only(torch.Tensor, lambda tensor: _cast(tensor, to), (args, kwargs))
        with torch._C._ExcludeDispatchKeyGuard(AUTOCAST):
            return operator(*args, **kwargs)

    return kernel


def _cast(tensor: torch.Tensor, to: torch.dtype) -> torch.Tensor:
    """Autocast leaves double precision and integers alone."""
    return tensor.to(to) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _widest(args: tuple) -> torch.dtype:
    tensors = [each for each in args if isinstance(each, torch.Tensor) and each.is_floating_point()]
    return torch.float32 if torch.float32 in {tensor.dtype for tensor in tensors} else torch.get_autocast_dtype("cpu")
