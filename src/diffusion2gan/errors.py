"""Errors that a user can fix: the message says in one line what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake; scripts print only its message, without a traceback, in one line whatever it quotes."""

    def __init__(self, message: str):
        # a DataLoader raises a worker's error again, with the worker's traceback before its message
        message = message.rpartition(f"{UserError.__module__}.UserError: ")[2]
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """A hint for an unknown name: the most similar known name; if none is similar, `otherwise` or all known names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return otherwise or f"use one of {', '.join(known) or '(there are none)'}"
