"""What the raters of the human study preferred: win rates with intervals, and how well raters agree.

People and automatic raters are always counted separately.
"""

import csv
import math
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from diffusion2gan.errors import UserError

REPORTED = Path(__file__).with_name("reported_preferences.csv")  # the paper's Figure 6, read off the bars

HEADER = ["rater", "question", "trial", "choice", "seconds"]
CHOICES = ("left", "right", "tie")
AUTOMATIC = "automatic-"  # prefix of the names of raters that are not people
SUSPICIOUS = 6  # answers for the same side: by chance this happens once in 32 times          # ours


def read_key(path: Path) -> pd.DataFrame:
    """The key made by `human_study.page.trials`. Raises UserError if the file is not one."""
    kinds = dict.fromkeys(["trial", "question", "row", "against", "left", "right", "caption"], str) | {"picture": int}
    try:
        key = pd.read_csv(path, dtype=kinds, keep_default_na=False)  # a caption may be "None"
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise UserError(f"{path} is not a key ({error}): use that of make_human_study") from error
    if lacking := kinds.keys() - set(key):
        raise UserError(f"{path} is not a key, it lacks {', '.join(sorted(lacking))}: use that of make_human_study")
    if (again := key["trial"].duplicated()).any():
        raise UserError(f"{path} has the trial {key['trial'][again].iloc[0]} twice: use that of make_human_study")
    return key


def read_answers(files: Sequence[Path], key: pd.DataFrame, raters: str) -> pd.DataFrame:
    """All answers, one per line: raters, the columns of HEADER, row, against, and the `preferred` row, None for a tie.

    `raters` says who wrote the files: `people` or `automatic`. Raises UserError with file and line for anything that is
    not an answer to this key, and for a trial that a rater answered twice.
    """
    asked, places, answers = key.set_index("trial"), {}, []
    for place, answer in (each for file in files for each in _lines(file)):
        _check(answer, asked, place, raters)
        given = answer["rater"], answer["trial"]
        if given in places:
            raise UserError(f"{place}: {given[0]} answered trial {given[1]} already, in {places[given]}: keep one")
        places[given] = place
        trial = asked.loc[answer["trial"]]
        known = {"row": trial["row"], "against": trial["against"], "preferred": trial.get(answer["choice"])}
        answers.append({"raters": raters, **answer, "seconds": float(answer["seconds"]), **known})
    return pd.DataFrame(answers, columns=["raters", *HEADER, "row", "against", "preferred"])


def win_rates(answers: pd.DataFrame) -> pd.DataFrame:
    """How often the first row was preferred, for each question, pair of rows and kind of rater.

    `win_rate` is the share among answers without ties. Its interval is Wilson's 95 % interval (1927), which assumes
    independent answers. `alpha` is Krippendorff's α. Both are NaN if undefined.
    """
    lines = []
    for (raters, question), asked in answers.groupby(["raters", "question"], sort=False):
        for (row, against), group in asked.groupby(["row", "against"]):
            wins, losses = int((group["preferred"] == row).sum()), int((group["preferred"] == against).sum())
            rate, low, high = wilson(wins, wins + losses)
            lines.append(
                {
                    "question": question,
                    "row": row,
                    "against": against,
                    "raters": raters,
                    "rater_count": group["rater"].nunique(),
                    "wins": wins,
                    "losses": losses,
                    "ties": len(group) - wins - losses,
                    "n": len(group),
                    "win_rate": rate,
                    "win_rate_low": low,
                    "win_rate_high": high,
                    "alpha": krippendorff_alpha(group.groupby("trial")["choice"].agg(list).tolist()),
                }
            )
    return pd.DataFrame(lines)


def of_each_rater(answers: pd.DataFrame) -> pd.DataFrame:
    """For each rater and question: number of answers and ties, share of left among the rest, median seconds,
    `agreement` with the majority of the other raters, and a `warning` if all answers are for the same side.

    Agreement counts the trials on which the other raters have a most frequent answer, ties included. NaN without any.
    """
    lines = []
    for (raters, question), asked in answers.groupby(["raters", "question"], sort=False):
        chosen = asked.pivot(index="trial", columns="rater", values="choice")
        for rater, own in asked.groupby("rater"):
            sides = own["choice"][own["choice"] != "tie"]
            same_side = len(own) >= SUSPICIOUS and len(sides) == len(own) and sides.nunique() == 1
            lines.append(
                {
                    "rater": rater,
                    "raters": raters,
                    "question": question,
                    "n": len(own),
                    "ties": len(own) - len(sides),
                    "left": (sides == "left").mean(),
                    "seconds": own["seconds"].median(),
                    "agreement": _with_majority(chosen[rater], chosen.drop(columns=rater)),
                    "warning": f"always {sides.iloc[0]}" if same_side else None,
                }
            )
    return pd.DataFrame(lines)


def wilson(wins: int, n: int) -> tuple[float, float, float]:
    """The share of wins among n and Wilson's 95 % interval; NaN if n is 0."""
    if n == 0:
        return math.nan, math.nan, math.nan
    interval = binomtest(wins, n).proportion_ci(0.95, method="wilson")
    return wins / n, float(interval.low), float(interval.high)


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float:
    """Krippendorff's α for nominal data (2011): 1 is perfect agreement, 0 is agreement by chance.

    A unit holds the values that its raters gave. Units may have different numbers of raters. NaN if no two raters can
    be compared or all values are the same.
    """
    values = sorted({value for unit in units for value in unit})
    counts = np.array([[list(unit).count(value) for value in values] for unit in units if len(unit) > 1], float)
    if not len(counts):
        return math.nan
    sizes, totals = counts.sum(axis=1), counts.sum(axis=0)
    observed = ((sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1)).sum()
    expected = (totals.sum() ** 2 - (totals**2).sum()) / (totals.sum() - 1)
    return float(1 - observed / expected) if expected else math.nan


def _with_majority(own: pd.Series, others: pd.DataFrame) -> float:
    """The share of trials where a rater gave the most frequent answer of the others."""
    agreed = []
    for trial, choice in own.dropna().items():
        most = others.loc[trial].dropna().mode()
        if len(most) == 1:
            agreed.append(choice == most.item())
    return float(np.mean(agreed)) if agreed else math.nan


def _lines(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The lines of a rater's file, each with its place (`file, line 2`). Raises UserError if the file is malformed."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            if next(reader, []) != HEADER:
                raise UserError(f"{file}, line 1: the header must be {','.join(HEADER)}, as it was downloaded")
            for cells in reader:
                if len(cells) != len(HEADER):
                    raise UserError(f"{file}, line {reader.line_num}: {len(cells)} cells instead of {len(HEADER)}")
                yield f"{file}, line {reader.line_num}", dict(zip(HEADER, cells, strict=True))
            if reader.line_num == 1:
                raise UserError(f"{file}, line 2: there are no answers: remove the file")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as csv ({error}): use the file as it was downloaded") from error


def _check(answer: dict[str, str], asked: pd.DataFrame, place: str, raters: str) -> None:
    rater, trial = answer["rater"], answer["trial"]
    if not rater.strip() or rater.startswith(AUTOMATIC) != (raters == "automatic"):
        raise UserError(
            f"{place}: the rater is '{rater}': people need a name, and only automatic raters have one with {AUTOMATIC}"
        )
    if trial not in asked.index:
        raise UserError(f"{place}: there is no trial '{trial}': the answers belong to a page with another key")
    if answer["question"] != asked.loc[trial, "question"]:
        raise UserError(f"{place}: trial {trial} asks for {asked.loc[trial, 'question']}, not '{answer['question']}'")
    if answer["choice"] not in CHOICES:
        raise UserError(f"{place}: the choice is '{answer['choice']}': it must be {', '.join(CHOICES)}")
    try:
        valid = 0 <= float(answer["seconds"]) < math.inf
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{place}: '{answer['seconds']}' is not a number of seconds")
