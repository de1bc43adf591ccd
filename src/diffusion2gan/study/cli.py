"""The command line of every script: its settings are a dataclass, a user's mistake is one line."""

import diffusion2gan._torchvision  # noqa: F401

import dataclasses
import sys
import typing
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

from transformers.hf_argparser import HfArg, HfArgumentParser

from diffusion2gan.errors import UserError

option = HfArg  # a field of a settings dataclass with `help`, and with `default` or `default_factory`


class _Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """A script's docstring as it is written, and every default."""


def run(main: Callable) -> None:
    """Call `main` with its settings dataclass, filled in from the command line.

    A field is an option (`batch_size` is `--batch-size`), without a default a required one. A first word
    that is no option is the first field's. `--help` shows the script's docstring and each `option`'s help.
    UserError is printed as one line, exit status 1; Ctrl-C ends quietly, exit status 130.
    """
    settings = next(iter(typing.get_type_hints(main).values()))
    parser = HfArgumentParser(settings, description=sys.modules[main.__module__].__doc__, formatter_class=_Help)
    words = sys.argv[1:]
    if words and not words[0].startswith("-"):
        words.insert(0, f"--{dataclasses.fields(settings)[0].name}")
    try:
        main(*parser.parse_args_into_dataclasses(words))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def settings_of(arguments, names: list[str]) -> dict:
    """The named settings of a dataclass, as plain values for a checkpoint or a metrics file."""
    values = dataclasses.asdict(arguments)
    return {name: str(values[name]) if isinstance(values[name], Path) else values[name] for name in names}
