"""The paper's claims, checked on measured numbers: each one holds, fails, is undecided, or is not measured.

A check is a list: a metric, then rows of one table with "<" or ">" between them. A number multiplies the row after it.
`[fid, a, "<", b, "<", c]` means fid(a) < fid(b) < fid(c), and `[fid, 9, a, "<", b]` means 9 * fid(a) < fid(b).
A comparison of FIDs is made in the second feature space too, where it was measured. Both spaces count the same.  # ours
Only `judge` imports pandas, because every job of the workflow reads the claims.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion2gan.errors import UserError
from diffusion2gan.study.config import read_yaml

if TYPE_CHECKING:
    import pandas as pd

# the verdict of a claim is the first of these that any of its comparisons has
VERDICTS = ("fails", "not measured", "undecided", "holds")


@dataclass(frozen=True)
class Term:
    """One side of a comparison: the metric of a row, times a factor."""

    metric: str
    row: str
    factor: float = 1

    def __str__(self) -> str:
        return ("" if self.factor == 1 else f"{self.factor:g} * ") + f"{self.metric}({self.row})"


@dataclass(frozen=True)
class Comparison:
    """`left < right` or `left > right`."""

    left: Term
    sign: str
    right: Term

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


def read_claims(path: Path) -> dict[str, dict]:
    """The claims by name. Each has a `section`, what it `says`, a `table`, its `comparisons`, and maybe a `note`.

    Raises UserError for a claim that lacks one of these or has a check of another form.
    """
    claims = read_yaml(path, str(path))
    for name, claim in claims.items():
        if not isinstance(claim, dict) or not isinstance(claim.get("checks", []), list):
            raise UserError(
                f"the claim '{name}' in {path} is no mapping with a list of checks: write it as the others are"
            )
        if lacking := [key for key in ("section", "says", "table", "checks") if not claim.get(key)]:
            raise UserError(f"the claim '{name}' in {path} has no {', '.join(lacking)}: write it as the others are")
        try:
            claim["comparisons"] = [each for check in claim.pop("checks") for each in _comparisons(check)]
        except ValueError as error:
            raise UserError(
                f"the check {error} of the claim '{name}' in {path} must be a metric, then rows with only < or only > "
                'between them, for example [fid, a, "<", b] or [fid, 9, a, "<", b]'
            ) from error
    return claims


def judge(claim: dict, table: pd.DataFrame) -> list[dict]:
    """Every comparison of a claim with its `verdict` on a table with the columns row, seed and the metrics.

    `left` and `right` are means over the seeds, times their factors. `low` and `high` are Student's 95 % interval over
    the seeds of their `difference`. A comparison is undecided if the interval contains 0; `seeds_needed` says how many
    seeds would decide it, or None for too many. One seed has no interval: its difference alone decides.
    """
    from diffusion2gan.report.tables import half_width, seeds_needed  # imports pandas

    judged = []
    for comparison in _in_both_spaces(claim["comparisons"], table):
        line = {"check": str(comparison), "verdict": "not measured"}
        left, right = _numbers(comparison.left, table), _numbers(comparison.right, table)
        differences = (left - right).dropna()
        if len(differences):
            difference = differences.mean()
            right_way = difference < 0 if comparison.sign == "<" else difference > 0
            line |= {
                "verdict": "holds" if right_way else "fails",
                "left": left.mean(),
                "right": right.mean(),
                "difference": difference,
                "seeds": len(differences),
            }
        if len(differences) > 1:
            width = half_width(differences)
            line |= {"low": difference - width, "high": difference + width}
            if abs(difference) < width:
                line |= {"verdict": "undecided", "seeds_needed": seeds_needed(differences)}
        judged.append(line)
    return judged


def verdict(judged: list[dict]) -> str:
    """The verdict of a claim: it holds if all its comparisons hold, and fails if one fails.

    A comparison is undecided if its verdicts in the two feature spaces differ.
    """
    verdicts = defaultdict(set)
    for line in judged:
        verdicts[line["check"].replace("fid_second(", "fid(")].add(line["verdict"])
    return min((each.pop() if len(each) == 1 else "undecided" for each in verdicts.values()), key=VERDICTS.index)


def _in_both_spaces(comparisons: list[Comparison], table: pd.DataFrame) -> list[Comparison]:
    """The comparisons, each of FIDs followed by the same one of `fid_second` if the table has numbers for it."""
    both = []
    for comparison in comparisons:
        both.append(comparison)
        if comparison.left.metric == "fid":
            left, right = (replace(term, metric="fid_second") for term in (comparison.left, comparison.right))
            if (_numbers(left, table) - _numbers(right, table)).notna().any():
                both.append(Comparison(left, comparison.sign, right))
    return both


def _comparisons(check: object) -> list[Comparison]:
    """A check as comparisons of neighbours. Raises ValueError with the check if it has another form."""
    metric, *rest = check if isinstance(check, list) and check else [None]
    form = "".join(each if each in ("<", ">") else "r" if isinstance(each, str) else "n" for each in rest)
    numbers = all(isinstance(each, str) or (type(each) in (int, float) and 0 < each < math.inf) for each in rest)
    if not isinstance(metric, str) or not numbers or not re.fullmatch("n?r(<n?r)+|n?r(>n?r)+", form):
        raise ValueError(check)
    terms, factor = [], 1
    for each in rest:
        if not isinstance(each, str):
            factor = each
        elif each not in ("<", ">"):
            terms.append(Term(metric, each, factor))
            factor = 1
    sign = "<" if "<" in form else ">"
    return [Comparison(left, sign, right) for left, right in zip(terms[:-1], terms[1:], strict=True)]


def _numbers(term: Term, table: pd.DataFrame) -> pd.Series:
    """The values of a term by seed; NaN where the table has none."""
    values = table[table["row"] == term.row].set_index("seed").reindex(columns=[term.metric])[term.metric]
    try:
        values = values.astype(float)
    except ValueError as error:
        raise UserError(f"the {term.metric} of {term.row} is not a number ({error}): make its table again") from error
    if values.isin([math.inf, -math.inf]).any():
        raise UserError(f"the {term.metric} of {term.row} is infinite: make its table again")
    return term.factor * values
