"""Tables of measured numbers beside the paper's.

Every metric has two columns: `fid` is what this project measured, empty where it did not, and
`fid_paper` is what the paper reports. No number ever moves from one to the other. `fid_interval`, where it
is known, is half of the 95 % interval of what was measured: over the seeds, or of a single one over its pictures.
"""

import difflib
import json
import statistics
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import pandas as pd
from scipy.special import stdtrit

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic

REPORTED = Path(__file__).with_name("reported.csv")  # Tables 1–7, as printed
NEEDED = frozenset({"run", "benchmark", "scale", "seed", "metrics"})  # of a file that a table is made of

# The benchmark of each table of the paper; a benchmark of any other name stands in for each of them.
BENCHMARKS = dict.fromkeys("1237", "coco2014") | dict.fromkeys("45", "coco2017") | {"6": "cifar10"}

# What a row costs: measured column, the paper's, in words
COSTS = {
    "inference_seconds": ("inference_seconds_paper", "seconds of a picture"),
    "device_days": ("a100_days_paper", "days of training on one device; the paper's, on an A100"),
    "nfe_million": ("nfe_million_paper", "network evaluations, millions"),
}


def reported(table: str | None = None, path: Path = REPORTED) -> pd.DataFrame:
    """The paper's numbers, one line each: table, row, label, metric, value; of one table (`table2`) or of all.

    Values are float but for the words of Table 3's `type`. Raises UserError when there is no such table.
    """
    numbers = pd.read_csv(path, dtype=str)
    numbers["value"] = numbers["value"].map(_number).astype(object)
    if table is None:
        return numbers
    chosen = numbers[numbers["table"] == table.removeprefix("table")]
    if chosen.empty:
        raise UserError(f"the paper has no '{table}': {path} holds table{', table'.join(numbers['table'].unique())}")
    return chosen.reset_index(drop=True)


def read_metrics(paths: Iterable[Path], needed: Set[str] = NEEDED) -> list[dict]:
    """The metrics files, each with its own `path` added. UserError names one that cannot be read or lacks a key."""
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


def table(
    name: str, rows: Sequence[str], records: list[dict], paper: pd.DataFrame, scale: str, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Table `name` (`table2`): a line for each of `rows`, with what was measured and what the paper reports.

    Its metrics are the paper's, then `columns`, then the top-1 of OpenMoji scenes where it was measured. `paper` is
    this table's part of `reported`. Raises UserError when a row is neither measured nor
    reported, or when the files were not measured alike, so that their numbers do not compare.
    """
    for record in records:
        if record["run"] not in rows:
            raise UserError(f"{record['path']} is of the run '{record['run']}', which is no row of {name}")
        if record["scale"] != scale:
            raise UserError(f"{record['path']} was measured at scale {record['scale']}, {name} is of scale {scale}")
    _check_alike(records)
    recognised = [metric for metric in _metrics(records, paper) if metric.endswith("_top1")]
    metrics = list(dict.fromkeys([*paper["metric"], *columns, *recognised]))
    lines = []
    for row in rows:
        measured = [record for record in records if record["run"] == row]
        if not measured and row not in set(paper["row"]):
            near = difflib.get_close_matches(row, paper["row"], n=1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise UserError(f"the row '{row}' of {name} is neither measured nor reported{hint}")
        lines.append(_line(row, measured, paper, metrics))
    return pd.DataFrame(lines)


def run(name: str, records: list[dict], paper: pd.DataFrame) -> pd.DataFrame:
    """One run: a line for each table of the paper it is a row of and each benchmark it was measured on.

    A benchmark of the paper's stands only beside the tables of that benchmark. `paper` is all of `reported`.
    """
    for record in records:
        if record["run"] != name:
            raise UserError(f"{record['path']} is of the run '{record['run']}', not of '{name}'")
    paper = paper[paper["row"] == name]
    if not records and paper.empty:
        raise UserError(f"the run '{name}' is neither measured nor reported: no metrics file, no row of the paper")
    benchmarks = list(dict.fromkeys(record["benchmark"] for record in records if record["benchmark"]))
    metrics = _metrics(records, paper)
    pairs = []
    for number in paper["table"].unique():
        fitting = [b for b in benchmarks if b == BENCHMARKS[number] or b not in BENCHMARKS.values()]
        pairs += [(number, benchmark) for benchmark in fitting or [None]]
    pairs += [(None, b) for b in benchmarks if b not in {benchmark for _, benchmark in pairs}]
    lines = []
    for number, benchmark in pairs:
        measured = [record for record in records if benchmark and record["benchmark"] in (benchmark, None)]
        _check_alike(measured)
        line = _line(name, measured, paper[paper["table"] == number], metrics)
        lines.append({"table": f"table{number}" if number else None, **line})
    return pd.DataFrame(lines)


def per_seed(records: list[dict]) -> pd.DataFrame:
    """What was measured, a line for each row and seed, with the metrics files that it is from."""
    lines: dict[tuple[str, int], dict] = {}
    for record in records:
        key = record["run"], record["seed"]
        line = lines.setdefault(key, {"row": record["run"], "seed": record["seed"], "files": ""})
        line |= record["metrics"] | {"files": " ".join(filter(None, [line["files"], str(record["path"])]))}
    return pd.DataFrame(lines.values(), columns=None if lines else ["row", "seed", "files"])


def half_width(values: Sequence[float]) -> float:
    """Half of Student's 95 % interval of the mean of several values."""
    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / len(values) ** 0.5


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as csv, atomically: six significant digits, an empty cell for what is not known."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")


def pretty(frame: pd.DataFrame) -> str:
    """A table for the terminal: measured numbers, the paper's in brackets, a dash for neither."""
    metrics = [name for name in frame if f"{name}_paper" in frame]
    shown = pd.DataFrame({"": frame["label"], "scale": frame["scale"].fillna("—")})
    for name in metrics:
        both = zip(frame[name], frame[f"{name}_paper"], strict=True)
        shown[name] = [" ".join(filter(None, [_digits(ours), _digits(theirs, "({})")])) or "—" for ours, theirs in both]
    return shown.to_string(index=False) + "\nin brackets: reported by the paper"


def page(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as a person reads it: measured with its interval, and the paper's in a column of its own; a dash for
    neither. Columns that hold nothing are left out."""
    shown = pd.DataFrame({"": frame["label"]})
    for name in [name for name in frame if f"{name}_paper" in frame]:
        widths = frame.get(f"{name}_interval", pd.Series([None] * len(frame)))
        measured = zip(frame[name], widths, strict=True)
        columns = {
            name.replace("_", " "): [
                " ".join(filter(None, [_digits(value), _width(value, width)])) for value, width in measured
            ],
            f"{name.replace('_', ' ')}, paper": [_digits(value) for value in frame[f"{name}_paper"]],
        }
        for title, cells in columns.items():
            if any(cells):
                shown[title] = [cell or "—" for cell in cells]
    return shown


def protocol(frame: pd.DataFrame, records: list[dict]) -> list[str]:
    """How the numbers of a table were measured, in lines; devices and recipes once each, empty settings left out."""
    lines = []
    for name in ("scale", "benchmark", "seeds"):
        if values := sorted(set(frame[name].dropna().astype(str))):
            lines.append(f"{name}: {', '.join(values)}")
    recipe = {key: value for record in records for key, value in record.get("recipe", {}).items()}
    lines += [f"{key.replace('_', ' ')}: {value}" for key, value in recipe.items() if value != ""]
    for key in ("device", "git_commit"):
        if values := sorted({record[key] for record in records if key in record}):
            lines.append(f"{key.replace('_', ' ')}: {', '.join(values)}")
    notes = sorted({record["conversion"] for record in records if "conversion" in record})
    return lines + notes


def _line(row: str, records: list[dict], paper: pd.DataFrame, metrics: list[str]) -> dict:
    theirs = paper[paper["row"] == row].set_index("metric")
    values, intervals = _means(records), _half_widths(records)
    first = records[0] if records else {}
    line = {
        "row": row,
        "label": theirs["label"].iloc[0] if len(theirs) else row,
        "source": "measured" if records else "reported",
        "scale": first.get("scale"),
        "benchmark": first.get("benchmark"),
        "features": next((record["features"] for record in records if record.get("features")), None),
        "count": next((record["count"] for record in records if record.get("count")), None),
        "seeds": " ".join(map(str, sorted({record["seed"] for record in records}))) or None,
    }
    for metric in metrics:
        line[metric] = values.get(metric)
        line[f"{metric}_paper"] = theirs["value"].get(metric)
        if metric in intervals:
            line[f"{metric}_interval"] = intervals[metric]
    return line


def _means(records: list[dict]) -> dict[str, float]:
    """The mean over the seeds of every metric; each seed must have each metric once."""
    seeds = {record["seed"] for record in records}
    values: dict[str, dict[int, float]] = {}
    for record in records:
        for metric, value in record["metrics"].items():
            if record["seed"] in values.setdefault(metric, {}):
                raise UserError(f"{record['path']} measures {metric} of seed {record['seed']} a second time: leave one")
            values[metric][record["seed"]] = value
    for metric, of_seed in values.items():
        if lacking := seeds - of_seed.keys():
            raise UserError(f"'{records[0]['run']}' lacks {metric} for seed {min(lacking)}: measure it for every seed")
    return {metric: sum(of_seed.values()) / len(of_seed) for metric, of_seed in values.items()}


def _half_widths(records: list[dict]) -> dict[str, float]:
    """Half of the 95 % interval of every metric: Student's over the seeds; of one seed, that over its pictures."""
    if len({record["seed"] for record in records}) < 2:
        return {metric: width for record in records for metric, width in record.get("intervals", {}).items()}
    values: dict[str, list[float]] = {}
    for record in records:
        for metric, value in record["metrics"].items():
            values.setdefault(metric, []).append(value)
    return {metric: half_width(each) for metric, each in values.items()}


def _check_alike(records: list[dict]) -> None:
    """Numbers compare only where benchmark, scale and recipe (networks, resize, count of pictures) agree."""
    seen: dict[str, tuple] = {}
    for record in records:
        for key, value in {
            **record.get("recipe", {}),
            "benchmark": record["benchmark"],
            "scale": record["scale"],
        }.items():
            if value is None:
                continue  # the cost of a run is of no benchmark
            other, path = seen.setdefault(key, (value, record["path"]))
            if value != other:
                raise UserError(
                    f"{path} and {record['path']} do not compare, their {key} differs ({other} and {value}): "
                    "score them alike"
                )


def _metrics(records: list[dict], paper: pd.DataFrame) -> list[str]:
    """The metrics of the paper's table in its order, then what was measured besides."""
    return list(dict.fromkeys([*paper["metric"], *(name for record in records for name in record["metrics"])]))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _width(value: float, width: float | None) -> str:
    if pd.isna(value) or width is None or pd.isna(width):
        return ""
    return f"± {width:.0f}" if width >= 100 else f"± {width:.2g}"


def _digits(value: float | str | None, form: str = "{}") -> str:
    if pd.isna(value):
        return ""
    return form.format(value if isinstance(value, str) else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}")
