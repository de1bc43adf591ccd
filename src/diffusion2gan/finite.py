"""NaN and infinity are refused where they arise: later they would be black pixels, a wrong rank or an empty cell."""

from collections.abc import Sequence

import torch

from diffusion2gan.errors import UserError


def check_finite(rows: torch.Tensor, what: str, numbers: Sequence | None = None) -> torch.Tensor:
    """Return `rows` (N, ...), or raise UserError that names the first one with NaN or infinity.

    The message calls row i `what` and `numbers[i]`, by default `what` and i.
    """
    finite = rows.isfinite().flatten(1).all(1).tolist() if rows.dim() > 1 else rows.isfinite().tolist()
    if not all(finite):
        row = finite.index(False)
        raise UserError(
            f"{what} {row if numbers is None else numbers[row]} has values that are NaN or infinite: "
            "the weights are broken, or too large for the precision"
        )
    return rows
