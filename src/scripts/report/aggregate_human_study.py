"""Count what raters preferred and how well they agree, separately for people and automatic raters."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from diffusion2gan.errors import UserError
from diffusion2gan.human_study import preferences
from diffusion2gan.report.tables import write_csv
from diffusion2gan.study import cli


@dataclass
class Arguments:
    key: Path
    scale: str
    out: Path
    raters: Path
    people: list[Path] = field(default_factory=list)
    automatic: list[Path] = field(default_factory=list)


def main(args: Arguments):
    key = preferences.read_key(args.key)
    if not args.people and not args.automatic:
        raise UserError("nobody has answered: give the raters' files as --people or --automatic")
    answers = pd.concat(
        [
            preferences.read_answers(args.people, key, "people"),
            preferences.read_answers(args.automatic, key, "automatic"),
        ]
    )
    raters = preferences.of_each_rater(answers)
    for rater in raters.dropna(subset="warning").itertuples():
        print(f"warning: {rater.rater} answered {rater.warning} on {rater.question}", file=sys.stderr)
    write_csv(raters, args.raters)
    rates = preferences.win_rates(answers).assign(scale=args.scale)
    write_csv(rates, args.out)
    print(rates[["question", "row", "against", "raters", "wins", "losses", "ties", "win_rate"]].to_string(index=False))


if __name__ == "__main__":
    cli.run(main)
