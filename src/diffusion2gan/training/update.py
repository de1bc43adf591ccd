"""One step of an optimiser."""

from collections.abc import Iterable

import torch


def update(
    optimizer: torch.optim.Optimizer, loss: torch.Tensor | Iterable[torch.Tensor], max_norm: float = 1.0
) -> None:
    """Step once down the gradient of a scalar loss, its norm clipped to `max_norm` in each group.

    Of several losses, asked for one after the other, the gradients add up.
    """
    optimizer.zero_grad(set_to_none=True)
    for term in [loss] if isinstance(loss, torch.Tensor) else loss:
        term.backward()
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], max_norm)
    optimizer.step()
