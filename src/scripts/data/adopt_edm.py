"""Turn an official EDM checkpoint into a folder that the study takes for a teacher, executing nothing of it."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.io import atomic_folder
from diffusion2gan.pixel import edm_pickle
from diffusion2gan.study import cli


@dataclass
class Arguments:
    pickle: Path
    out: Path


def main(args: Arguments):
    network = edm_pickle.read(args.pickle)
    with atomic_folder(args.out) as temporary:
        network.save_pretrained(temporary)


if __name__ == "__main__":
    cli.run(main)
