"""Tables of measured numbers beside the paper's.

Every metric has two columns: `fid` is what this project measured and `fid_paper` is what the paper reports. Each is
empty where there is no number, and neither is ever filled from the other. `fid_interval` is half the 95 % interval of
`fid`: over the seeds, or over the images if there is one seed.
"""

import difflib
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from scipy.special import stdtrit

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic

# The benchmark of each table of the paper; any other benchmark stands in for all of them
BENCHMARKS = dict.fromkeys("1237", "coco2014") | dict.fromkeys("45", "coco2017") | {"6": "cifar10"}
MOST_SEEDS = 100  # `seeds_needed` tries no more


def aggregate_table(
    name: str,
    rows: Sequence[str],
    records: list[dict],
    paper: pd.DataFrame,
    scale: str,
    columns: Sequence[str] = (),
    reimplemented: Sequence[str] = (),
) -> pd.DataFrame:
    """Table `name` (`table2`), one line per row: the means of the metrics files and the paper's numbers.

    The metrics are the paper's, then `columns`, then the top-1 accuracies on OpenMoji scenes if measured. `paper` has
    the paper's numbers for this table. The labels of `reimplemented` rows say so. Raises UserError if a row is neither
    measured nor reported, or if the files were not measured the same way and so cannot be compared.
    """
    for record in records:
        if record["run"] not in rows:
            raise UserError(f"{record['path']} is of the run '{record['run']}', which is not a row of {name}")
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
        line = _line(row, measured, paper, metrics)
        if row in reimplemented:
            line["label"] += ", re-implemented, on our teacher"
        lines.append(line)
    return pd.DataFrame(lines)


def aggregate_run(name: str, records: list[dict], paper: pd.DataFrame) -> pd.DataFrame:
    """One run: a line for each table of the paper that has it as a row and each benchmark it was measured on.

    Numbers on a benchmark of the paper appear only beside tables on that benchmark. `paper` has all of the paper's
    numbers.
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
    """The measured numbers, one line per row and seed, with the metrics files that they come from."""
    lines: dict[tuple[str, int], dict] = {}
    for record in records:
        key = record["run"], record["seed"]
        line = lines.setdefault(key, {"row": record["run"], "seed": record["seed"], "files": ""})
        line |= record["metrics"] | {"files": " ".join(filter(None, [line["files"], str(record["path"])]))}
    return pd.DataFrame(lines.values(), columns=None if lines else ["row", "seed", "files"])


def half_width(values: Sequence[float]) -> float:
    """Half of Student's 95 % confidence interval for the mean of several values."""
    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / len(values) ** 0.5


def seeds_needed(differences: Sequence[float]) -> int | None:
    """How many seeds would decide the sign if mean and deviation stayed the same; None if `MOST_SEEDS` would not."""
    ratio = abs(statistics.mean(differences)) / statistics.stdev(differences)
    counts = range(2, MOST_SEEDS + 1)
    return next((n for n in counts if float(stdtrit(n - 1, 0.975)) / n**0.5 < ratio), None)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as csv, atomically, with six significant digits and empty cells for unknown values."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")


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
    """The mean of each metric over the seeds. Every seed must have every metric once."""
    seeds = {record["seed"] for record in records}
    values: dict[str, dict[int, float]] = {}
    for record in records:
        for metric, value in record["metrics"].items():
            if record["seed"] in values.setdefault(metric, {}):
                raise UserError(f"{record['path']} measures {metric} of seed {record['seed']} a second time: keep one")
            values[metric][record["seed"]] = value
    for metric, of_seed in values.items():
        if lacking := seeds - of_seed.keys():
            raise UserError(f"'{records[0]['run']}' lacks {metric} for seed {min(lacking)}: measure it for every seed")
    return {metric: sum(of_seed.values()) / len(of_seed) for metric, of_seed in values.items()}


def _half_widths(records: list[dict]) -> dict[str, float]:
    """Half the 95 % interval of each metric: Student's over the seeds, or that over the images for one seed."""
    if len({record["seed"] for record in records}) < 2:
        return {metric: width for record in records for metric, width in record.get("intervals", {}).items()}
    values: dict[str, list[float]] = {}
    for record in records:
        for metric, value in record["metrics"].items():
            values.setdefault(metric, []).append(value)
    return {metric: half_width(each) for metric, each in values.items()}


def _check_alike(records: list[dict]) -> None:
    """Raises UserError unless benchmark, scale and recipe (networks, resizing, number of images) are the same."""
    seen: dict[str, tuple] = {}
    for record in records:
        for key, value in {
            **record.get("recipe", {}),
            "benchmark": record["benchmark"],
            "scale": record["scale"],
        }.items():
            if value is None:
                continue  # the cost of a run has no benchmark
            other, path = seen.setdefault(key, (value, record["path"]))
            if value != other:
                raise UserError(
                    f"{path} and {record['path']} cannot be compared, their {key} differs ({other} and {value}): "
                    "score them the same way"
                )


def _metrics(records: list[dict], paper: pd.DataFrame) -> list[str]:
    """The metrics of the paper's table in its order, then the other measured ones."""
    return list(dict.fromkeys([*paper["metric"], *(name for record in records for name in record["metrics"])]))
