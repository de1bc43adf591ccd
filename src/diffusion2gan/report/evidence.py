"""What lies behind every number of the tables: what was recorded as it was measured, and as its run was trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.report import tables
from diffusion2gan.study.study import Study

TRAINING, COST = "training", "cost"


@dataclass(frozen=True)
class Entry:
    """The files of one row that say the same of each seed. `source` is a benchmark, `cost`, or `training`."""

    row: str
    source: str
    records: list[dict]  # of `tables.read_metrics`, by seed

    @property
    def anchor(self) -> str:
        return f"{self.row}-{self.source}"

    @property
    def parts(self) -> dict[str, dict[str, list]]:
        """All that the files say: for each part of a file and each name in it, the value of every seed; None for none.

        What stands in no part comes first, under "". A part that the settings repeat is left to them.
        """
        said = [dict(_leaves(_once(record))) for record in self.records]
        parts: dict[str, dict[str, list]] = {"": {}}
        for *part, name in dict.fromkeys(place for record in said for place in record):
            values = [record.get((*part, name)) for record in said]
            parts.setdefault(" / ".join(part[:1]), {})[".".join([*part[1:], name])] = values
        return parts


def entries(records: list[dict], study: Study) -> list[Entry]:
    """The entries of metrics records and of the trainings behind them, by row; each file once, seeds in order."""
    found: dict[tuple[str, str], dict[Path, dict]] = {}
    for record in records:
        found.setdefault((record["run"], record["benchmark"] or COST), {})[record["path"]] = record
    for record in records:
        for training in _trainings(record["path"].parent.parent, study):
            found.setdefault((training["run"], TRAINING), {})[training["path"]] = training
    rows = list(dict.fromkeys(row for row, _ in found))
    return [
        Entry(row, source, sorted(found[row, source].values(), key=lambda record: record["seed"]))
        for row, source in sorted(found, key=lambda place: rows.index(place[0]))
    ]


def anchors(of: list[Entry]) -> dict[tuple[str, str, str], str]:
    """The anchor of the entry that holds a metric of a row: {(row, benchmark or `cost`, metric): anchor}."""
    return {
        (entry.row, entry.source, metric): entry.anchor
        for entry in of
        if entry.source != TRAINING
        for record in entry.records
        for metric in record["metrics"]
    }


def trained(of: list[Entry]) -> dict[str, str]:
    """The anchor of the training that left a student or a file: {path as files name it: anchor}."""
    return {
        str(made): entry.anchor
        for entry in of
        if entry.source == TRAINING
        for record in entry.records
        for made in (record["path"], record["path"].parent.parent / "student")
    }


def _trainings(folder: Path, study: Study) -> Iterator[dict]:
    """What the training of the run in a folder recorded, then those of the runs that it starts from."""
    path = folder / "metrics" / "training.json"
    if path.is_file():
        (record,) = tables.read_metrics([path], {"seed", "metrics"})
        yield {"run": study.origins.get(folder.name, (folder.name, 0))[0], **record}
        if init := record.get("settings", {}).get("init"):
            yield from _trainings(Path(init).parent, study)


def _once(record: dict) -> dict:
    settings = record.get("settings", {})
    return {name: part for name, part in record.items() if not isinstance(part, dict) or settings.get(name) != part}


def _leaves(tree: dict, above: tuple = ()) -> Iterator[tuple[tuple, object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value
