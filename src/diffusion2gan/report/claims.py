"""What the paper claims, checked on measured numbers: does it hold here, does it fail, or is it not measured?

A check compares numbers of rows of one table: `fid(a) < fid(b)`; with a factor, `9 * fid(a) < fid(b)`; or down
some rows, `fid(a) > fid(b) > fid(c)`. It imports no pandas, because every job of the workflow reads the claims.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from diffusion2gan.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("fails", "not measured", "holds")  # a claim's is the first that one of its comparisons has
_SIDE = re.compile(r"(?:(?P<factor>\d+(?:\.\d+)?) \* )?(?P<metric>\w+)\((?P<row>[\w-]+)\)")


def read(path: Path) -> dict[str, dict]:
    """The claims by name: the `section` that makes it, what it `says`, its `table`, its `check` or a list of them,
    and a `note` where one is needed.

    Raises UserError for a check of another form.
    """
    claims = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, claim in claims.items():
        for check in _checks(claim):
            sides, signs = _cut(check)
            metrics = {side["metric"] for side in map(_SIDE.fullmatch, sides) if side}
            if not all(map(_SIDE.fullmatch, sides)) or len(metrics) > 1 or len(set(signs)) != 1:
                raise UserError(
                    f"the check '{check}' of the claim '{name}' in {path} must be `metric(row) < metric(row)` or >, "
                    "for example `fid(a) < fid(b)`, `9 * fid(a) < fid(b)`, `fid(a) > fid(b) > fid(c)`"
                )
    return claims


def comparisons(claim: dict) -> list[tuple[str, str, str]]:
    """What a claim compares, each as (left, sign, right): two neighbours at a time of what its checks line up."""
    found = []
    for sides, signs in map(_cut, _checks(claim)):
        found += zip(sides[:-1], signs, sides[1:], strict=True)
    return found


def judge(claim: dict, table: pd.DataFrame) -> list[dict]:
    """Each comparison of a claim with its `verdict` on a table that has the columns row, seed and the metrics.

    A comparison holds when it does for every seed. `left` and `right` are means over the seeds, with their factors;
    `low` and `high` are the 95 % interval (Student's, over the seeds) of their `difference`, which is `clear` when
    that does not hold 0. One seed has no interval.
    """
    from diffusion2gan.report.tables import half_width  # here: it imports pandas

    judged = []
    for left, sign, right in comparisons(claim):
        line = {"check": f"{left} {sign} {right}", "verdict": "not measured"}
        sides = [_numbers(side, table) for side in (left, right)]
        differences = (sides[0] - sides[1]).dropna()
        if len(differences):
            right_way = differences < 0 if sign == "<" else differences > 0
            difference = differences.mean()
            line |= {
                "verdict": "holds" if right_way.all() else "fails",
                "left": sides[0].mean(),
                "right": sides[1].mean(),
                "difference": difference,
                "seeds": len(differences),
            }
        if len(differences) > 1:
            width = half_width(differences)
            line |= {"low": difference - width, "high": difference + width}
            line["clear"] = "yes" if abs(difference) > width else "no"
        judged.append(line)
    return judged


def verdict(judged: list[dict]) -> str:
    """Of a claim: it holds where all of its comparisons do, and fails where one does."""
    return min((line["verdict"] for line in judged), key=VERDICTS.index)


def _checks(claim: dict) -> list[str]:
    return claim["check"] if isinstance(claim["check"], list) else [claim["check"]]


def _cut(check: str) -> tuple[list[str], list[str]]:
    """The sides and the signs of a check."""
    words = re.split(" ([<>]) ", check)
    return words[::2], words[1::2]


def _numbers(side: str, table: pd.DataFrame) -> pd.Series:
    """The metric of a side's row by seed, times its factor; NaN where the table has no such number."""
    factor, metric, row = _SIDE.fullmatch(side).groups()
    numbers = table[table["row"] == row].set_index("seed").reindex(columns=[metric])[metric]
    return float(factor or 1) * numbers.astype(float)
