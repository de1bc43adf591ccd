"""Gather one table of the paper: measured numbers beside the reported ones, as csv and as a page to read."""

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from diffusion2gan.io import atomic
from diffusion2gan.report import tables
from diffusion2gan.study import cli


@dataclass
class Arguments:
    table: str
    rows: list[str]
    scale: str
    out: Path
    metrics: list[Path] = field(default_factory=list)
    reported: Path = tables.REPORTED
    columns: list[str] = field(default_factory=list)
    seeds: Path | None = None
    markdown: Path | None = None
    html: Path | None = None


def main(args: Arguments):
    paper = tables.reported(args.table, args.reported)
    records = tables.read_metrics(args.metrics)
    frame = tables.table(args.table, args.rows, records, paper, args.scale, args.columns)
    tables.write(frame, args.out)
    shown, lines = tables.page(frame), tables.protocol(frame, records)
    if args.seeds:
        tables.write(tables.per_seed(records), args.seeds)
    if args.markdown:
        write(args.markdown, markdown(args.table, shown, lines))
    if args.html:
        write(args.html, page(args.table, shown, lines, frame))
    print(tables.pretty(frame))


def markdown(name: str, shown: pd.DataFrame, lines: list[str]) -> str:
    """A table in Markdown, with how it was measured below."""
    rows = [list(shown), ["---"] * len(shown.columns), *shown.to_numpy().tolist()]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return f"# {title(name)}\n\n{body}\n\n{EXPLANATION}\n\n" + "".join(f"* {line}\n" for line in lines)


def page(name: str, shown: pd.DataFrame, lines: list[str], frame: pd.DataFrame) -> str:
    """The same as one HTML file, with pictures of FID against what it costs where there is such a column."""
    pictures = "".join(
        f'<p><img alt="FID against {words}" src="data:image/png;base64,{drawn(frame, cost)}"></p>'
        for cost, (reported, words) in tables.COSTS.items()
        if cost in frame or reported in frame
    )
    said = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title(name)}</title><style>{STYLE}</style>"
        f"<h1>{title(name)}</h1>{shown.to_html(index=False, border=0)}<p>{EXPLANATION}</p>"
        f"{pictures}<ul>{said}</ul></html>\n"
    )


def drawn(frame: pd.DataFrame, cost: str) -> str:
    """A picture of FID against a cost, as base64."""
    from diffusion2gan.report import figures  # matplotlib starts slowly, and most tables do without

    buffer = io.BytesIO()
    figures.against(frame.groupby("label", sort=False), cost).savefig(buffer, format="png", dpi=150)
    return base64.b64encode(buffer.getvalue()).decode()


def title(name: str) -> str:
    return f"Table {name.removeprefix('table')}"


def write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


EXPLANATION = (
    "Measured by this project at the scale below; ± is half of a 95 % interval, over the seeds or, of one alone, over "
    "its pictures. Columns marked “paper” hold what the paper reports and were not measured here."
)
STYLE = (
    "body{font:15px sans-serif;margin:2em auto;max-width:75em}table{border-collapse:collapse}"
    "th,td{padding:.3em .8em;text-align:right;border-bottom:1px solid #ddd}td:first-child{text-align:left}"
    "li{color:#666;font-size:smaller}"
)


if __name__ == "__main__":
    cli.run(main)
