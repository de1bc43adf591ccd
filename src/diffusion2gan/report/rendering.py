"""Pages from the Jinja templates beside this file: HTML (with one base style) and Markdown."""

import json
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from diffusion2gan.io import write_text

MARK = {"holds": "✓", "fails": "✗", "undecided": "?", "not measured": "–"}


def render(template: str, filters: dict[str, Callable] | None = None, **values) -> str:
    """The text of a template, such as `report.html`. Values in HTML are escaped. A missing value raises an error.

    `filters` are those that only this template uses.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["mark"] = MARK
    environment.filters |= {"cell": _cell, "duration": duration, "json": _json, "value": _value, **(filters or {})}
    return environment.get_template(f"{template}.jinja").render(values)


def write_page(path: Path, template: str, **values) -> None:
    """Render a template into a file, atomically."""
    write_text(path, render(template, **values))


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them: 5400 → "1.5 h"; a dash for NaN."""
    if seconds != seconds:
        return "—"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return str(text).replace("|", "\\|")


def _json(data: object) -> Markup:
    """Data for a script. Text in it cannot end the script."""
    return Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"))


def _value(value: object) -> str:
    """A value of a metrics file as text."""
    if value is None or isinstance(value, bool):
        return {None: "—", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
