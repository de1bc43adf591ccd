"""Command lines: the options of a script are the fields of its settings. A user's mistake is reported in one line."""

import argparse
import dataclasses
import shlex
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, TypeAdapter, ValidationError

from diffusion2gan.errors import UserError, nearest
from diffusion2gan.io import disk_problem
from diffusion2gan.validation import explain


def run(main: Callable) -> None:
    """Call `main` with its settings, a pydantic model or a dataclass, filled in from the command line.

    `--help` shows the script's docstring. Mistakes are printed as one line: a wrong option with exit status 2, any
    other UserError, or a full or unreadable disk, with 1. Ctrl-C ends quietly with 130.
    """
    kind = next(iter(typing.get_type_hints(main).values()))
    try:
        settings = parse(kind, sys.argv[1:], sys.modules[main.__module__].__doc__)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        main(settings)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if not (problem := disk_problem(error)):
            raise
        sys.exit(f"error: {problem}: free some space, or see to the disk, and run again")
    except KeyboardInterrupt:
        sys.exit(130)


def parse(kind: type, words: Sequence[str], description: str | None = None):
    """Parse a command line into settings of the type `kind`, a pydantic model or a dataclass.

    A field `batch_size` is the option `--batch_size` or `--batch-size`. A list takes several words. A first word that
    is not an option is the value of the first field. Raises UserError for an unknown, missing or wrong option.
    """
    options, words = _options(kind), list(words)
    if words and not words[0].startswith("-"):
        words.insert(0, f"--{next(iter(options))}")
    parser = _Parser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    for name, option in options.items():
        how = {"nargs": "*"} if option.is_list else {"nargs": "?", "const": "true"} if option.kind is bool else {}
        parser.add_argument(*dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]), help=option.help, **how)
    values, unknown = parser.parse_known_args(words)
    if unknown:
        raise UserError(f"unknown option {unknown[0]}, {nearest(unknown[0], [f'--{name}' for name in options])}")
    if missing := [name for name, option in options.items() if option.required and name not in values]:
        raise UserError(f"the option --{missing[0]} is missing")
    try:
        return TypeAdapter(kind).validate_python(vars(values))
    except ValidationError as error:
        raise UserError(explain(error, kind)) from error


def arguments(options: dict) -> str:
    """Settings as a command line: {"batch_size": 8, "r1": True} → "--batch_size 8 --r1 true"."""
    return " ".join(f"--{name} {_words(value)}" for name, value in options.items())


def settings_of(settings, names: Sequence[str]) -> dict:
    """The named settings as plain values, for a checkpoint or a metrics file."""
    values = {name: getattr(settings, name) for name in names}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


@dataclasses.dataclass(frozen=True)
class _Option:
    """One field: its type, whether it is required, its default and its help."""

    kind: object
    required: bool
    default: object
    description: str

    @property
    def is_list(self) -> bool:
        return typing.get_origin(self.kind) is list

    @property
    def help(self) -> str:
        empty = self.default in (None, "", [])
        shown = "(required)" if self.required else "" if empty else f"(default: {self.default})"
        return f"{self.description} {shown}".strip().replace("%", "%%")


def _options(kind: type) -> dict[str, _Option]:
    if issubclass(kind, BaseModel):
        return {
            name: _Option(field.annotation, field.is_required(), field.get_default(), field.description or "")
            for name, field in kind.model_fields.items()
        }
    hints, options = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        default = [] if field.default_factory is list else field.default
        options[field.name] = _Option(hints[field.name], default is dataclasses.MISSING, default, "")
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _words(value: object) -> str:
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))
