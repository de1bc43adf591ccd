"""Figure 6: how often the images of a row are preferred: by people, by an automatic rater, and in the paper."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.human_study import preferences
from diffusion2gan.io import read_table
from diffusion2gan.report import figures
from diffusion2gan.study import cli

NAMES = {"people": "people", "automatic": "automatic rater (CLIP), not a person"}


@dataclass
class Arguments:
    preferences: Path
    out: Path
    reported: Path = preferences.REPORTED


def main(args: Arguments):
    measured, reported = read_table(args.preferences), read_table(args.reported)
    scale = measured["scale"].iloc[0]
    sources = {
        f"{name}\nmeasured at scale {scale}": measured[measured["raters"] == raters]
        for raters, name in NAMES.items()
        if raters in set(measured["raters"])
    }
    name = f"people\nreported by the paper, read off its figure, ± {reported['plus_minus'].max()}"
    sources[name] = reported.assign(win_rate=reported["win_percent"] / 100)
    described = "; ".join(name.replace("\n", ", ") for name in sources)
    figures.save(figures.preferences(sources), args.out, f"How often one row is preferred to another: {described}.")


if __name__ == "__main__":
    cli.run(main)
