"""Tables and claims as cells for the report. Every measured number links to the records that it comes from."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from diffusion2gan.errors import UserError
from diffusion2gan.report import display, records
from diffusion2gan.report.claims import Comparison, verdict
from diffusion2gan.study.study import Study

CLAIM_COLUMNS = ("section", "says", "table", "note")  # of results/claims.csv: the same for each comparison of a claim


@dataclass(frozen=True)
class Text:
    """A piece of a cell. `link` is the anchor that it links to, `exact` the full number in the file."""

    text: str
    link: str = ""
    exact: str = ""


Cell = list[Text]


@dataclass(frozen=True)
class TableCells:
    """A table as cells, or the reason why it is `missing`."""

    name: str
    title: str
    head: list[str]
    rows: list[list[Cell]]
    protocol: list[str]
    missing: str | None = None

    def links_to(self, anchor: str) -> bool:
        """Whether any of its numbers comes from an entry."""
        return any(piece.link == anchor for row in self.rows for cell in row for piece in cell)


@dataclass(frozen=True)
class ClaimCells:
    """A claim: its verdict, its own cells by column, and a verdict and cells for each of its comparisons."""

    verdict: str
    said: dict[str, Cell]
    verdicts: list[str]
    lines: list[dict[str, Cell]]


def table_cells(
    study: Study, name: str, made: tuple[pd.DataFrame, list[dict]] | None, caption: str, anchors: dict
) -> TableCells:
    """A table and the metrics records behind it as cells. Measured numbers link to their records.

    `anchors` comes from `report.records`. Raises UserError if no record holds a measured number.
    """
    title = f"Table {name.removeprefix('table')}: {caption}"
    if made is None:
        lacking = study.lacks(study.tables[name])
        reason = f"the scale {study.scale} has no {lacking}" if lacking else "it was not asked for"
        return TableCells(name, title, [], [], [], reason)
    frame, measured = made
    shown = display.for_readers(frame)
    metrics = {metric.replace("_", " "): metric for metric in display.metrics_of(frame)}
    links = _links(study, name, anchors)
    rows = []
    for number, line in enumerate(shown.to_dict("records")):
        row = frame["row"][number]
        cells = []
        for head, text in line.items():
            metric = metrics.get(head)
            if metric is None or pd.isna(frame[metric][number]):
                cells.append([Text(text)])
            elif (row, metric) in links:
                cells.append([Text(text, links[row, metric], f"{metric} = {frame[metric][number]}")])
            else:
                raise UserError(f"{name}: no metrics file holds the {metric} of {row}: make results/{name}.csv again")
        rows.append(cells)
    said = [stand_in(study, study.tables[name].benchmark), *display.protocol(frame, measured)]
    return TableCells(name, title, list(shown), rows, list(filter(None, said)))


def claim_cells(
    frame: pd.DataFrame, comparisons: list[Comparison], study: Study, places: Collection[str], anchors: dict
) -> list[ClaimCells]:
    """results/claims.csv, read as text, as cells. The two sides of each comparison link to their numbers.

    `comparisons` are all those in claims.yaml, `places` the tables and figures of the page. Empty columns are left out.
    """
    links = {name: _links(study, name, anchors) for name in study.tables}
    known = {str(comparison): comparison for comparison in comparisons}
    columns = [name for name in frame if frame[name].notna().any()]
    of_claim = [name for name in CLAIM_COLUMNS if name in columns]
    of_line = [name for name in columns if name not in {*CLAIM_COLUMNS, "claim", "verdict", "scale"}]

    def cell(line: dict, name: str) -> Cell:
        text = line[name]
        if pd.isna(text):
            return [Text("")]
        if name == "table":
            return [Text(text, text if text in places else "")]
        if name == "check" and text in known:
            left, sign, right = known[text].left, known[text].sign, known[text].right
            numbers = links.get(line["table"], {})
            left, right = (Text(str(term), numbers.get((term.row, term.metric), "")) for term in (left, right))
            return [left, Text(f" {sign} "), right]
        return [Text(text) if name in CLAIM_COLUMNS else _number(text)]

    found = []
    for _, lines in frame.groupby("claim", sort=False):
        first, *_ = lines = lines.to_dict("records")
        verdicts = [line["verdict"] for line in lines]
        said = {name: cell(first, name) for name in of_claim}
        found.append(
            ClaimCells(verdict(lines), said, verdicts, [{n: cell(line, n) for n in of_line} for line in lines])
        )
    return found


def stand_in(study: Study, benchmark: str) -> str:
    """A sentence on what replaces a benchmark at this scale, empty if nothing does."""
    other = study.benchmark(benchmark).name
    return f"The benchmark {other} stands in for {benchmark}" if other != benchmark else ""


def _links(study: Study, name: str, anchors: dict) -> dict[tuple[str, str], str]:
    """The anchors of the numbers of a table: {(row, metric): anchor}."""
    sources = (study.benchmark(study.tables[name].benchmark).name, records.COST)
    return {(row, metric): anchor for (row, source, metric), anchor in anchors.items() if source in sources}


def _number(text: str) -> Text:
    try:
        return Text(f"{float(text):.4g}", exact=text)
    except ValueError:
        return Text(text)
