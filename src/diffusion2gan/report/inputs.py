"""The inputs of the tables: the paper's numbers and the metrics files of the runs."""

from collections.abc import Iterable, Set
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ValidationError

from diffusion2gan.errors import UserError
from diffusion2gan.io import read_json

REPORTED = Path(__file__).with_name("reported.csv")  # Tables 1–7, as printed
NEEDED = frozenset({"run", "benchmark", "scale", "seed", "metrics"})  # keys of a metrics file that a table needs


class _Record(BaseModel):
    """The types of what is used of a metrics file."""

    run: str = ""
    benchmark: str | None = None
    scale: str = ""
    seed: int = 0
    metrics: dict[str, float] = {}
    intervals: dict[str, float] = {}
    recipe: dict = {}
    settings: dict = {}


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
    """The contents of metrics files, each with its `path`.

    Raises UserError if one cannot be read, lacks a key, or holds something else than numbers where numbers should be.
    """
    records, again = [], "make it again with score.py"
    for path in map(Path, paths):
        record = read_json(path, again)
        if missing := needed - record.keys():
            raise UserError(f"the metrics file {path} lacks {', '.join(sorted(missing))}: {again}")
        try:
            _Record.model_validate(record, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(
                f"the metrics file {path}: {place} is {first['input']!r}, {first['msg']}: {again}"
            ) from error
        records.append({**record, "path": path})
    return records


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
