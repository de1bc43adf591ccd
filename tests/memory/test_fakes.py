"""Fake tensors say of every result what torch's own say."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from diffusion2gan.memory.fakes import FAKES, FakeTensor

X = torch.randn(2, 4, 8, 8)
OPERATORS = {
    "convolution": lambda x: F.conv2d(x, x.new_empty(6, 4, 3, 3), stride=2, padding=1),
    "norm": lambda x: F.group_norm(x, 2),
    "attention": lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT[:, None]] * 3),
    "product": lambda x: x.flatten(1) @ x.flatten(1).T,
    "broadcast": lambda x: x[:, :1] * x.double() + 1,
    "half": lambda x: x.bfloat16() + 1.5,
    "view": lambda x: x.permute(0, 2, 3, 1)[:, ::2],
    "pieces": lambda x: x.chunk(2, 1),
    "enlarged": lambda x: F.interpolate(x, scale_factor=2.0),
    "sum": lambda x: x.sum((1, 2), keepdim=True),
    "with a real tensor": lambda x: x + torch.ones(8),
}  # fmt: skip


def looks(tensor):
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.untyped_storage().nbytes()


@pytest.mark.parametrize("name", OPERATORS)
def test_a_result_has_the_shape_type_and_memory_that_torchs_fakes_have(name):
    theirs = FakeTensorMode(allow_non_fake_inputs=True)
    with theirs:
        x = torch.empty(2, 4, 8, 8)
    expected = OPERATORS[name](x)
    with FAKES:
        x = torch.empty(2, 4, 8, 8)
    for _ in range(2):  # computed, and remembered
        results = OPERATORS[name](x)
        for result, each in zip(*([r] if isinstance(r, torch.Tensor) else r for r in (results, expected)), strict=True):
            assert isinstance(result, FakeTensor) and looks(result) == looks(each)


def test_views_share_memory_and_results_do_not():
    with FAKES:
        x = torch.empty(2, 4)
    stored = x.untyped_storage()._cdata
    for view in (x.T, x[0], x.view(8), x.detach()):
        assert view.untyped_storage()._cdata == stored
    assert x.add_(1) is x
    new = [x + 1 for _ in range(2)]
    assert len({stored, *(each.untyped_storage()._cdata for each in new)}) == 3


def test_gradients_are_fake_and_numbers_are_0():
    with FAKES:
        weight = torch.nn.Parameter(torch.empty(3, 4))
    loss = (X.flatten(0, 2)[:, :4] @ weight.T).square().sum()
    loss.backward()
    assert isinstance(weight.grad, FakeTensor) and weight.grad.shape == (3, 4) and loss.item() == 0
