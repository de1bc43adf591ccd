"""Check what the paper claims on the tables that were measured, as csv and as a page to read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan.io import atomic
from diffusion2gan.report import claims, tables
from diffusion2gan.study import cli

COLUMNS = [
    "claim",
    "section",
    "says",
    "check",
    "verdict",
    "left",
    "right",
    "difference",
    "low",
    "high",
    "clear",
    "seeds",
]
COLUMNS += ["table", "scale", "note"]
SYMBOLS = {"holds": "✓", "fails": "✗", "not measured": "–"}
NOTHING = pd.DataFrame(columns=["row", "seed"])


@dataclass
class Arguments:
    claims: Path
    tables: list[Path]
    scale: str
    out: Path
    markdown: Path


def main(args: Arguments):
    stated = claims.read(args.claims)
    measured = {path.stem: pd.read_csv(path) for path in args.tables}
    if "human_study" in measured:
        measured["human_study"] = preferences(measured["human_study"])
    judged = {name: claims.judge(claim, measured.get(claim["table"], NOTHING)) for name, claim in stated.items()}
    lines = [
        {"claim": name, **stated[name], "scale": args.scale, **line} for name, found in judged.items() for line in found
    ]
    tables.write(pd.DataFrame(lines, columns=COLUMNS), args.out)
    with atomic(args.markdown) as temporary:
        temporary.write_text(page(stated, judged, args.scale), encoding="utf-8")
    for name, found in judged.items():
        print(f"{claims.verdict(found):12}  {name}")


def preferences(rates: pd.DataFrame) -> pd.DataFrame:
    """What people preferred, as a table: the rows a-over-b and b-over-a of each two rows, and a column a question.

    `rates` has the columns question, row, against, raters, win_rate. An automatic rater never counts.
    """
    people = rates[rates["raters"] == "people"]
    won, lost = people["win_rate"], 1 - people["win_rate"]
    both = [
        people.assign(row=people["row"] + "-over-" + people["against"], share=won),
        people.assign(row=people["against"] + "-over-" + people["row"], share=lost),
    ]
    table = pd.concat(both).pivot(index="row", columns="question", values="share")
    return table.reset_index().assign(seed=0)


def page(stated: dict[str, dict], judged: dict[str, list[dict]], scale: str) -> str:
    """All claims as Markdown: verdict, section, sentence and the numbers behind it."""
    verdicts = {name: claims.verdict(found) for name, found in judged.items()}
    count = Counter(verdicts.values())
    rows = [
        f"| {SYMBOLS[verdicts[name]]} {verdicts[name]} | {claim['section']} | {_sentence(claim)} "
        f"| {'<br>'.join(map(_numbers, judged[name]))} |"
        for name, claim in stated.items()
    ]
    return (
        "# What the paper claims, and what was measured here\n\n"
        f"At scale {scale}, of {len(stated)} claims {count['holds']} hold, {count['fails']} fail and "
        f"{count['not measured']} are not measured. {EXPLANATION}\n\n"
        "| verdict | section | claim | measured |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def _sentence(claim: dict) -> str:
    return claim["says"] + (f" <br>*{claim['note']}*" if "note" in claim else "")


def _numbers(line: dict) -> str:
    """A comparison and its numbers; in brackets the interval of their difference."""
    text = f"{SYMBOLS[line['verdict']]} `{line['check']}`"
    if line["verdict"] == "not measured":
        return text
    text += f": {line['left']:.4g} and {line['right']:.4g}, difference {line['difference']:+.3g}"
    if "clear" in line:
        text += f" ({line['low']:+.3g} to {line['high']:+.3g})" + (", not clear" if line["clear"] == "no" else "")
    return text


EXPLANATION = (
    "A claim holds where each of its comparisons does for every seed. In brackets is Student's 95 % interval of a "
    "difference over the seeds; where it holds 0, the difference is not clear of noise. Of one seed there is none: "
    "what it shows may be noise."
)


if __name__ == "__main__":
    cli.run(main)
