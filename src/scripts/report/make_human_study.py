"""Make the page of the human preference study and its key, which says which model made each image."""

from pathlib import Path

from pydantic import Field

from diffusion2gan.data.sources import attribution
from diffusion2gan.errors import UserError
from diffusion2gan.human_study import page as human_study
from diffusion2gan.io import write_text
from diffusion2gan.pairs.prompts import read_captions
from diffusion2gan.report.tables import write_csv
from diffusion2gan.sampling.folder import model_folders
from diffusion2gan.settings import Count, Resizing, Seeded
from diffusion2gan.study import cli


class Arguments(Resizing, Seeded):
    prompts: Path
    models: list[str]
    pairs: list[str]
    count: Count = Field(description="number of prompts")
    out: Path
    key: Path


def main(args: Arguments):
    captions = read_captions(args.prompts)
    folders = model_folders(args.models)
    pairs = [_pair(pair, folders) for pair in args.pairs]
    human_study.check_alike(folders, captions)

    chosen = human_study.choose(captions, args.count, args.seed)
    pictures = {
        (row, number): picture
        for row, folder in folders.items()
        for number, picture in zip(
            chosen, human_study.encode(folder, list(chosen), args.resolution, args.resize_filter), strict=True
        )
    }
    key = human_study.trials(pairs, chosen, pictures, args.seed)
    page = human_study.render_study(key, pictures, args.resolution, attribution(captions))
    write_csv(key, args.key)
    write_text(args.out, page)
    print(f"{len(key)} trials, {len(page) / 1e6:.1f} MB: {args.out}")


def _pair(words: str, folders: dict[str, Path]) -> tuple[str, str]:
    row, _, against = words.partition("=")
    if unknown := {row, against} - folders.keys():
        raise UserError(f"--pairs {words}: write ROW=ROW, both from --models; there is no '{min(unknown)}'")
    return row, against


if __name__ == "__main__":
    cli.run(main)
