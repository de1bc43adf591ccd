"""What a user got wrong: told in one line that says what, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user's; scripts print its message alone, without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """What to use instead of an unknown name: the known one that is most like it, or else all there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(known) or '(there are none)'}"
