"""Check the paper's claims on the measured tables: as csv and as a page to read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan.io import read_table
from diffusion2gan.report import claims
from diffusion2gan.report.rendering import write_page
from diffusion2gan.report.tables import MOST_SEEDS, write_csv
from diffusion2gan.study import cli

COLUMNS = "claim section says check verdict left right difference low high seeds seeds_needed table scale note".split()
NOTHING = pd.DataFrame(columns=["row", "seed"])


@dataclass
class Arguments:
    claims: Path
    tables: list[Path]
    scale: str
    out: Path
    markdown: Path


def main(args: Arguments):
    stated = claims.read_claims(args.claims)
    measured = {path.stem: read_table(path) for path in args.tables}
    if "human_study" in measured:
        measured["human_study"] = preferences(measured["human_study"])
    judged = {name: claims.judge(claim, measured.get(claim["table"], NOTHING)) for name, claim in stated.items()}
    verdicts = {name: claims.verdict(found) for name, found in judged.items()}
    lines = [
        {"claim": name, **stated[name], "scale": args.scale, **line} for name, found in judged.items() for line in found
    ]
    write_csv(pd.DataFrame(lines, columns=COLUMNS), args.out)
    page = {"scale": args.scale, "claims": stated, "judged": judged, "verdicts": verdicts, "most_seeds": MOST_SEEDS}
    write_page(args.markdown, "claims.md", **page, count=Counter(verdicts.values()))
    for name, verdict in verdicts.items():
        print(f"{verdict:12}  {name}")


def preferences(rates: pd.DataFrame) -> pd.DataFrame:
    """What people preferred as a table: rows a-over-b and b-over-a for each pair, one column per question.

    `rates` has the columns question, row, against, raters, win_rate. Automatic raters are left out.
    """
    people = rates[rates["raters"] == "people"]
    won, lost = people["win_rate"], 1 - people["win_rate"]
    both = [
        people.assign(row=people["row"] + "-over-" + people["against"], share=won),
        people.assign(row=people["against"] + "-over-" + people["row"], share=lost),
    ]
    table = pd.concat(both).pivot(index="row", columns="question", values="share")
    return table.reset_index().assign(seed=0)


if __name__ == "__main__":
    cli.run(main)
