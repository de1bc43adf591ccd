"""Runs scripts one after the other in every process of a group: `worker.py COMMANDS`, a JSON list of words."""

import importlib
import json
import sys
from pathlib import Path
from typing import get_type_hints

import torch
from weight_by_weight import weight_by_weight

from diffusion2gan.study import cli
from diffusion2gan.training import distributed


def run(script: str, *words: str) -> None:
    """Run a script of `src/scripts` with its options, as its command line would."""
    main = importlib.import_module(f"scripts.{script.replace('/', '.')}").main
    main(cli.parse(next(iter(get_type_hints(main).values())), words))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for command in json.loads(Path(sys.argv[1]).read_text()):
        print("running", *command[:1], file=sys.stderr, flush=True)
        with weight_by_weight():
            run(*command)
        distributed.wait()
