"""Convert an official EDM checkpoint to a teacher folder, without executing any code in it."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.io import atomic_folder
from diffusion2gan.pixel.edm_pickle import load_edm_pickle
from diffusion2gan.study import cli


@dataclass
class Arguments:
    pickle: Path
    out: Path


def main(args: Arguments):
    network = load_edm_pickle(args.pickle)
    with atomic_folder(args.out) as temporary:
        network.save_pretrained(temporary)


if __name__ == "__main__":
    cli.run(main)
