"""Names in the configuration: the entry that a name refers to, and the names of repeats."""

from diffusion2gan.errors import UserError, nearest
from diffusion2gan.study.entries import Entry


def known(kind: str, name: str, entries: dict, where: str):
    """The entry with a name. Raises UserError with the nearest known name if the name is unknown."""
    if name not in entries:
        place = where if where.startswith("scales/") else f"config.yaml: {where}"
        raise UserError(f"{place}: no {kind} '{name}', {nearest(name, entries)}")
    return entries[name]


def named(entries: dict[str, Entry]) -> dict:
    """The entries, each with its key as its name."""
    return {name: entry.called(name) for name, entry in entries.items()}


def again(row: str, number: int) -> str:
    """The name of a row's repeat; number 0 is the row itself."""
    return f"{row}-seed{number}" if number else row
