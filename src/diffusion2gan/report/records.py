"""The records behind the numbers of the tables: what was recorded when a row was scored and when it was trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.report.inputs import read_metrics
from diffusion2gan.study.study import Study

TRAINING, COST = "training", "cost"


@dataclass(frozen=True)
class Entry:
    """The files of one row from one source: a benchmark, `cost` or `training`. There is one file per seed."""

    row: str
    source: str
    records: list[dict]  # from `read_metrics`, by seed

    @property
    def anchor(self) -> str:
        return f"{self.row}-{self.source}"

    @property
    def parts(self) -> dict[str, dict[str, list]]:
        """The contents of the files: {part of the file: {name: [a value per seed, None if missing]}}.

        Values outside any part come first, under "". Parts that the settings repeat are left out.
        """
        contents = [dict(_leaves(_without_repeats(record))) for record in self.records]
        parts: dict[str, dict[str, list]] = {"": {}}
        for *part, name in dict.fromkeys(place for record in contents for place in record):
            values = [record.get((*part, name)) for record in contents]
            parts.setdefault(" / ".join(part[:1]), {})[".".join([*part[1:], name])] = values
        return parts


def entries(records: list[dict], study: Study) -> list[Entry]:
    """The entries of metrics records and of the trainings behind them, ordered by row and seed, without duplicates."""
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


def anchors(entries: list[Entry]) -> dict[tuple[str, str, str], str]:
    """The anchor of the entry that holds a metric: {(row, benchmark or `cost`, metric): anchor}."""
    return {
        (entry.row, entry.source, metric): entry.anchor
        for entry in entries
        if entry.source != TRAINING
        for record in entry.records
        for metric in record["metrics"]
    }


def trained(entries: list[Entry]) -> dict[str, str]:
    """The anchor of the training that wrote a student or a record: {path as it appears in files: anchor}."""
    return {
        str(path): entry.anchor
        for entry in entries
        if entry.source == TRAINING
        for record in entry.records
        for path in (record["path"], record["path"].parent.parent / "student")
    }


def _trainings(folder: Path, study: Study) -> Iterator[dict]:
    """The training record of the run in a folder, then those of the runs that it starts from."""
    path = folder / "metrics" / "training.json"
    if path.is_file():
        (record,) = read_metrics([path], {"seed", "metrics"})
        yield {"run": study.origins.get(folder.name, (folder.name, 0))[0], **record}
        if init := record.get("settings", {}).get("init"):
            yield from _trainings(Path(init).parent, study)


def _without_repeats(record: dict) -> dict:
    settings = record.get("settings", {})
    return {name: part for name, part in record.items() if not isinstance(part, dict) or settings.get(name) != part}


def _leaves(tree: dict, above: tuple = ()) -> Iterator[tuple[tuple, object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value
