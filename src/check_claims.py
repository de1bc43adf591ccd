"""Check the claims of the paper on the tables that were measured."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan import claims, cli, tables


@dataclass
class Arguments:
    claims: Path
    tables: list[Path]
    scale: str
    out: Path


def main(args: Arguments):
    measured = {path.stem: pd.read_csv(path) for path in args.tables}
    rows = [
        {"claim": name, "says": claim["says"], "check": f"{claim['table']}: {claim['check']}", "scale": args.scale}
        | claims.judge(claim, measured.get(claim["table"], pd.DataFrame(columns=["row", "seed"])))
        for name, claim in claims.read(args.claims).items()
    ]
    frame = pd.DataFrame(rows)
    tables.write(frame, args.out)
    print(frame[["claim", "verdict"]].to_string(index=False))


if __name__ == "__main__":
    cli.run(main)
