"""Whose pictures a figure or a page shows."""

from collections.abc import Iterable

from diffusion2gan.toy import openmoji


def attribution(source: str = "", captions: Iterable[str] = ()) -> str:
    """OpenMoji's attribution if pictures come from the `source` `openmoji` or show its captions; otherwise empty."""
    if source != "openmoji" and {prompt.caption for prompt in openmoji.prompts("all")}.isdisjoint(captions):
        return ""
    return openmoji.ATTRIBUTION
