"""What a check says: a state, and in words what was seen or what to do. The findings as a page."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from diffusion2gan.errors import UserError
from diffusion2gan.report.rendering import render
from diffusion2gan.study.study import Study

MISSING, WRONG, UNKNOWN, FETCHABLE, SOUND = "missing", "looks wrong", "not checked", "fetched by a job", "sound"
STATES = (MISSING, WRONG, UNKNOWN, FETCHABLE, SOUND)  # in the order of the page
INSIDE = SOUND, "this project makes it"
Answer = tuple[str, str]  # one of STATES, and what was seen or what to do
Check = tuple[str, str, Callable[[], Answer]]  # the subject, its place, and its check, which may raise UserError


@dataclass(frozen=True)
class Finding:
    """What is at one place. `state` is one of STATES; `said` is what was seen or what to do."""

    state: str
    subject: str
    place: str
    said: str


def findings(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run the checks one by one; a UserError looks wrong."""
    for subject, place, check in checks:
        try:
            state, said = check()
        except UserError as error:
            state, said = WRONG, str(error)
        yield Finding(state, subject, place, said)


def nothing_there(study: Study, place: str, key: str) -> Answer:
    """The answer for a path that does not exist, which the scale's `key` names."""
    return MISSING, f"put it there{origin(study, place)}, or set `{key}` in scales/{study.scale}.yaml"


def not_in_scale(study: Study, key: str) -> Answer:
    """The answer for something that the scale does not have."""
    return MISSING, f"scale {study.scale} has none: set `{key}` in scales/{study.scale}.yaml"


def origin(study: Study, place: str) -> str:
    """Where the files of a place come from, their size and licence, in brackets; empty if no scale states them."""
    stated = study.config.origins.get(place)
    parts = [stated.address, stated.size, stated.licence] if stated else []
    return f" ({', '.join(filter(None, parts))})" if any(parts) else ""


def size(count: int) -> str:
    """A number of bytes as megabytes or gigabytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def spread(parts: Sequence) -> list:
    """The first, a middle and the last part; fewer if there are fewer."""
    places = sorted({0, len(parts) // 2, len(parts) - 1}) if len(parts) else []
    return [parts[place] for place in places]


def markdown(study: Study, found: Sequence[Finding]) -> str:
    """The findings as a page, the worst first."""
    groups = {state: [each for each in found if each.state == state] for state in STATES}
    count = {state: len(groups[state]) for state in (MISSING, WRONG)}
    found_groups = {state: each for state, each in groups.items() if each}
    return render("doctor.md", study=study, groups=found_groups, count=count)
