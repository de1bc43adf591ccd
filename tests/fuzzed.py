"""Arbitrary and damaged files for whatever reads files: the same ones in every run.

A reader returns a result or raises a UserError of one line; any other exception is a failure.
"""

from collections.abc import Callable
from copy import deepcopy

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from diffusion2gan.errors import UserError

# the one profile: 200 files for each reader, no random seed, nothing kept from run to run
fuzzed = settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["1e9", "<"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def damaged(draw, valid: bytes) -> bytes:
    """A valid file with some bytes changed, put in or left out, and maybe cut short."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 4)))
        content[start:stop] = draw(st.binary(max_size=4))
    return bytes(content[: draw(st.none() | st.integers(0, len(content)))])


@st.composite
def mutated(draw, tree: dict) -> dict:
    """A copy of nested mappings and lists in which one or two entries are lost, renamed or of another type."""
    tree = deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        parent, here = None, tree
        while isinstance(here, dict | list) and here and (parent is None or draw(st.booleans())):
            parent = here
            key = draw(st.sampled_from(list(here) if isinstance(here, dict) else range(len(here))))
            here = here[key]
        if parent is None:
            break
        change = draw(st.sampled_from(["lose", "rename", "exchange", "replace", "replace"]))
        if change == "lose":
            del parent[key]
        elif change == "rename" and isinstance(parent, dict):
            parent[draw(st.text(max_size=4) | st.just(f"{key}s") | st.integers())] = parent.pop(key)
        elif change == "exchange":
            other = draw(st.sampled_from(list(parent.values()) if isinstance(parent, dict) else parent))
            parent[key] = deepcopy(other)
        else:
            parent[key] = draw(values)
    return tree


def read(call: Callable, *arguments):
    """What a reader returns; None if it raises a UserError, which must be one line."""
    try:
        return call(*arguments)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
