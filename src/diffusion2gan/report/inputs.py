"""The inputs of the tables: the paper's numbers and the metrics files of the runs."""

import json
from collections.abc import Iterable, Set
from pathlib import Path

import pandas as pd

from diffusion2gan.errors import UserError

REPORTED = Path(__file__).with_name("reported.csv")  # Tables 1–7, as printed
NEEDED = frozenset({"run", "benchmark", "scale", "seed", "metrics"})  # keys of a metrics file that a table needs


def read_paper(table: str | None = None, path: Path = REPORTED) -> pd.DataFrame:
    """The paper's numbers, one per line: table, row, label, metric, value. `table` (`table2`) selects one table.

    Values are floats, except the words of Table 3's `type`. A table that is not in the paper has none.
    """
    numbers = pd.read_csv(path, dtype=str)
    numbers["value"] = numbers["value"].map(_number).astype(object)
    if table is None:
        return numbers
    return numbers[numbers["table"] == table.removeprefix("table")].reset_index(drop=True)


def read_metrics(paths: Iterable[Path], needed: Set[str] = NEEDED) -> list[dict]:
    """The contents of metrics files, each with its `path`. Raises UserError if one cannot be read or lacks a key."""
    records = []
    for path in map(Path, paths):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            missing = needed - record.keys()
        except (OSError, ValueError) as error:
            raise UserError(f"the metrics file {path} cannot be read ({error}): make it again with score.py") from error
        if missing:
            raise UserError(f"the metrics file {path} lacks {', '.join(sorted(missing))}: make it again with score.py")
        records.append({**record, "path": path})
    return records


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
