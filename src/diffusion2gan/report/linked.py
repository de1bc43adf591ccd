"""Tables and claims as cells for the report, whose numbers lead to what is behind them."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from diffusion2gan.errors import UserError
from diffusion2gan.report import evidence, tables
from diffusion2gan.report.claims import verdict
from diffusion2gan.study.study import Study

OF_CLAIM = ("section", "says", "table", "note")  # columns of results/claims.csv that a claim's comparisons share
_TERM = re.compile(r"(\w+)\(([\w-]+)\)|^(\w+)(?=: )")  # of a check: `fid(row)`, or the table before it


@dataclass(frozen=True)
class Text:
    """A piece of a cell; `link` is the anchor it leads to, `exact` what the file says in full."""

    text: str
    link: str = ""
    exact: str = ""


@dataclass(frozen=True)
class Table:
    """A table as cells of pieces; `missing` says why where it was not made."""

    name: str
    title: str
    head: list[str]
    rows: list[list[list[Text]]]
    protocol: list[str]
    missing: str | None = None

    def leads_to(self, anchor: str) -> bool:
        """Whether any of its numbers is from an entry."""
        return any(piece.link == anchor for row in self.rows for cell in row for piece in cell)


@dataclass(frozen=True)
class Claim:
    """A claim: its verdict, its own cells by column, and of each of its comparisons a verdict and cells."""

    verdict: str
    said: dict[str, list[Text]]
    verdicts: list[str]
    lines: list[dict[str, list[Text]]]


def table(study: Study, name: str, made: tuple[pd.DataFrame, list[dict]] | None, caption: str, anchors: dict) -> Table:
    """A table and the metrics records it is made of: measured numbers lead to them, what the paper reports nowhere.

    `anchors` is of `diffusion2gan.report.evidence`. Raises UserError for a measured number that no record holds.
    """
    title = f"Table {name.removeprefix('table')}: {caption}"
    if made is None:
        lacking = study.lacks(study.tables[name])
        reason = f"the scale {study.scale} has no {lacking}" if lacking else "it was not asked for"
        return Table(name, title, [], [], [], reason)
    frame, records = made
    page = tables.page(frame)
    metrics = {metric.replace("_", " "): metric for metric in frame if f"{metric}_paper" in frame}
    links = _numbers(study, name, anchors)
    rows = []
    for number, line in enumerate(page.to_dict("records")):
        row = frame["row"][number]
        cells = []
        for head, text in line.items():
            metric = metrics.get(head)
            if metric is None or pd.isna(frame[metric][number]):
                cells.append([Text(text)])
            elif (row, metric) in links:
                cells.append([Text(text, links[row, metric], f"{metric} = {frame[metric][number]}")])
            else:
                raise UserError(
                    f"{name}: no metrics file is behind the {metric} of {row}: make results/{name}.csv again"
                )
        rows.append(cells)
    said = [stand_in(study, study.tables[name].benchmark), *tables.protocol(frame, records)]
    return Table(name, title, list(page), rows, list(filter(None, said)))


def claims(frame: pd.DataFrame, study: Study, places: Collection[str], anchors: dict) -> list[Claim]:
    """results/claims.csv, read as text, as claims; the terms of their checks lead to the numbers that they compare.

    `places` are the tables and figures of the page. Any column is shown that holds something.
    """
    links = {name: _numbers(study, name, anchors) if name in study.tables else {} for name in places}
    columns = [name for name in frame if frame[name].notna().any()]
    of_claim = [name for name in OF_CLAIM if name in columns]
    of_line = [name for name in columns if name not in {*OF_CLAIM, "claim", "verdict", "scale"}]

    def cell(line, name):
        if pd.isna(line[name]):
            return [Text("")]
        if name == "check":
            return _check(line["check"], line.get("table"), links)
        if name == "table":
            return [Text(line["table"], line["table"] if line["table"] in places else "")]
        return [Text(line[name]) if name in OF_CLAIM else _number(line[name])]

    found = []
    for _, lines in frame.groupby("claim", sort=False):
        first, *_ = lines = lines.to_dict("records")
        verdicts = [line["verdict"] for line in lines]
        said = {name: cell(first, name) for name in of_claim}
        found.append(Claim(verdict(lines), said, verdicts, [{n: cell(line, n) for n in of_line} for line in lines]))
    return found


def _check(text: str, table: str | None, links: dict[str, dict]) -> list[Text]:
    """A check whose terms `fid(row)`, and the table before it if it names one, are links."""
    pieces, end = [], 0
    for found in _TERM.finditer(text):
        metric, row, named = found.groups()
        table = named or table
        link = named if named in links else links.get(table, {}).get((row, metric))
        pieces += [Text(text[end : found.start()]), Text(found[0], link or "")]
        end = found.end()
    return [*pieces, Text(text[end:])]


def stand_in(study: Study, benchmark: str) -> str:
    """A sentence on what stands in for a benchmark at this scale, empty where nothing does."""
    other = study.benchmark(benchmark).name
    return f"The benchmark {other} stands in for {benchmark}" if other != benchmark else ""


def _numbers(study: Study, name: str, anchors: dict) -> dict[tuple[str, str], str]:
    """The anchors of a table's numbers: {(row, metric): anchor}."""
    sources = (study.benchmark(study.tables[name].benchmark).name, evidence.COST)
    return {(row, metric): anchor for (row, source, metric), anchor in anchors.items() if source in sources}


def _number(text: str) -> Text:
    try:
        return Text(f"{float(text):.4g}", exact=text)
    except ValueError:
        return Text(text)
