"""What the paper claims, checked on measured numbers: does it hold here, does it fail, or is it not measured?

It imports no pandas, because every job of the workflow reads the claims.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from diffusion2gan.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_CHECK = re.compile(r"(?P<metric>\w+)\((?P<left>[\w-]+)\) (?P<sign>[<>]) (?P=metric)\((?P<right>[\w-]+)\)")


def read(path: Path) -> dict[str, dict]:
    """The claims by name: `says` in words, `table`, and `check` in the form `fid(row) < fid(row)`.

    Raises UserError for a check of any other form.
    """
    claims = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, claim in claims.items():
        if not _CHECK.fullmatch(claim["check"]):
            raise UserError(f"the check of the claim '{name}' in {path} must be `metric(row) < metric(row)`, or >")
    return claims


def judge(claim: dict, table: pd.DataFrame) -> dict:
    """`verdict` (holds, fails, not measured) on a table with the columns row, seed and the metric.

    With several seeds a claim holds when it does for every seed; `left` and `right` are means over
    seeds, `least` and `most` the extremes of left - right.
    """
    metric, left, sign, right = _CHECK.fullmatch(claim["check"]).groups()
    measured = table if metric in table else table.assign(**{metric: None})
    sides = [measured[measured["row"] == row].set_index("seed")[metric].astype(float) for row in (left, right)]
    difference = (sides[0] - sides[1]).dropna()
    if difference.empty:
        return {"verdict": "not measured"}
    right_way = (difference < 0) if sign == "<" else (difference > 0)
    return {
        "verdict": "holds" if right_way.all() else "fails",
        "left": sides[0].mean(),
        "right": sides[1].mean(),
        "least": difference.min(),
        "most": difference.max(),
        "seeds": len(difference),
    }
