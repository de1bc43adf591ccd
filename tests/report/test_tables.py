import csv
import json

import pandas as pd
import pytest
import scipy.stats
from fuzzed import fuzzed, mutated, read
from hypothesis import given

from diffusion2gan.errors import UserError
from diffusion2gan.report import display, inputs, tables


def record(run, seed=0, benchmark="coco2014", scale="toy", recipe=None, **metrics):
    return {
        "run": run,
        "seed": seed,
        "benchmark": benchmark,
        "scale": scale,
        "features": "efficientnet-lite0",
        "count": 100,
        "recipe": recipe or {"count": 100},
        "metrics": metrics,
        "path": f"{run}-{seed}.json",
    }


def lines(frame, path):
    tables.write_csv(frame, path)
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_papers_numbers_are_all_there():
    numbers = inputs.read_paper()
    assert list(numbers) == ["table", "row", "label", "metric", "value"]
    assert sorted(numbers["table"].unique()) == list("1234567")
    assert not numbers.duplicated(["table", "row", "metric"]).any()


@pytest.mark.parametrize(
    ("table", "row", "metric", "value"),
    [
        ("table1", "regression-elatentlpips", "fid", 22.95),
        ("table2", "teacher-sd15", "recall", 0.67),
        ("table3", "gigagan", "type", "GAN"),
        ("table4", "dpm-solver", "inference_seconds", 0.88),
        ("table5", "sdxl-diffusion2gan", "dreamsim", 0.284),
        ("table6", "regression-lpips-1000k", "nfe_million", 111.8),
        ("table7", "diffusion2gan", "a100_days", 43.6),
    ],
)
def test_a_number_of_each_table_is_as_printed(table, row, metric, value):
    numbers = inputs.read_paper(table).set_index(["row", "metric"])["value"]
    assert numbers[row, metric] == value


def test_a_table_that_the_paper_lacks_has_measured_numbers_alone(tmp_path):
    assert inputs.read_paper("table8").empty
    frame = tables.aggregate_table("table8", ["a"], [record("a", fid=3.0)], inputs.read_paper("table8"), "toy", ["fid"])
    (line,) = lines(frame, tmp_path / "table8.csv")
    assert (line["label"], line["source"], float(line["fid"]), line["fid_paper"]) == ("a", "measured", 3.0, "")
    assert "a" in display.for_terminal(frame)


def test_a_method_that_is_trained_here_is_labelled_so(tmp_path):
    numbers = inputs.read_paper("table3")
    given = ["instaflow", "diffusion2gan"], [record("instaflow", fid=3.0), record("diffusion2gan", fid=2.0)], numbers
    frame = tables.aggregate_table("table3", *given, "toy", reimplemented=["instaflow"])
    theirs, ours = lines(frame, tmp_path / "table3.csv")
    assert theirs["label"] == "InstaFlow-0.9B, re-implemented, on our teacher"
    assert "re-implemented" not in ours["label"] and theirs["fid_paper"] == "13.1"


def test_measured_and_reported_never_mix(tmp_path):
    rows = ["regression-elatentlpips-large-batch", "gan-diffusion", "teacher-sd15"]
    measured = [record(rows[0], fid=50.5, clip_score=0.2), record(rows[2], fid=40.25, emoji_top1=0.75)]
    frame = tables.aggregate_table("table2", rows, measured, inputs.read_paper("table2"), "toy")
    first, second, third = lines(frame, tmp_path / "table2.csv")
    assert [line["source"] for line in (first, second, third)] == ["measured", "reported", "measured"]
    assert (first["fid"], first["fid_paper"]) == ("50.5", "14.72")
    assert (first["recall"], first["recall_paper"]) == ("", "0.65")
    assert (second["fid"], second["fid_paper"], second["scale"], second["seeds"]) == ("", "12.04", "", "")
    assert second["recall_paper"] == ""  # illegible in the paper's text
    assert (third["emoji_top1"], third["emoji_top1_paper"]) == ("0.75", "")
    assert third["label"] == "Stable Diffusion 1.5 (Teacher)"
    assert (third["scale"], third["features"], third["count"], third["seeds"]) == (
        "toy",
        "efficientnet-lite0",
        "100",
        "0",
    )
    names = list(first)
    assert names[names.index("fid") :][:4] == ["fid", "fid_paper", "clip_score", "clip_score_paper"]


def test_a_measured_value_that_equals_the_papers_is_still_a_measured_one(tmp_path):
    frame = tables.aggregate_table("table2", ["gan-diffusion"], [], inputs.read_paper("table2"), "paper")
    (line,) = lines(frame, tmp_path / "t.csv")
    assert {name for name in line if not name.endswith("_paper") and line[name]} == {"row", "label", "source"}


def test_words_are_reported_too(tmp_path):
    frame = tables.aggregate_table("table3", ["gigagan", "teacher-sd15"], [], inputs.read_paper("table3"), "paper")
    first, second = lines(frame, tmp_path / "t.csv")
    assert (first["type"], first["type_paper"], second["type_paper"]) == ("", "GAN", "Diffusion")


def test_several_seeds_are_averaged(tmp_path):
    measured = [record("gan-diffusion", seed=seed, fid=fid) for seed, fid in ((2, 10.0), (0, 14.0), (1, 9.0))]
    (line,) = lines(tables.aggregate_run("gan-diffusion", measured, inputs.read_paper()), tmp_path / "run.csv")
    assert (line["fid"], line["seeds"], line["fid_paper"]) == ("11", "0 1 2", "12.04")
    low, high = scipy.stats.t.interval(0.95, 2, 11, scipy.stats.sem([10, 14, 9]))
    assert float(line["fid_interval"]) == pytest.approx((high - low) / 2, rel=1e-5)


def test_of_one_seed_the_interval_is_that_of_its_pictures(tmp_path):
    measured = [record("gan-diffusion", fid=10.0) | {"intervals": {"fid": 0.5}}]
    (line,) = lines(tables.aggregate_run("gan-diffusion", measured, inputs.read_paper()), tmp_path / "run.csv")
    assert line["fid_interval"] == "0.5"


def test_seed_by_seed_each_number_names_its_files():
    measured = [record("a", seed, fid=fid) | {"path": f"{seed}.json"} for seed, fid in ((0, 10.0), (1, 14.0))]
    measured.append(record("a", 1, device_days=2.0) | {"path": "cost.json"})
    first, second = tables.per_seed(measured).to_dict("records")
    assert (first["row"], first["seed"], first["fid"], first["files"]) == ("a", 0, 10.0, "0.json")
    assert (second["fid"], second["device_days"], second["files"]) == (14.0, 2.0, "1.json cost.json")


def test_a_table_without_a_measured_row_is_still_read_seed_by_seed(tmp_path):
    tables.write_csv(tables.per_seed([]), tmp_path / "table.csv")
    assert list(pd.read_csv(tmp_path / "table.csv")) == ["row", "seed", "files"]


def test_the_protocol_leaves_out_what_is_empty():
    measured = [record("regression-mse", recipe={"count": 100, "clip_prefix": ""}, fid=1.0)]
    paper = inputs.read_paper("table1")
    frame = tables.aggregate_table("table1", ["regression-mse"], measured, paper, "toy")
    assert display.protocol(frame, measured) == ["scale: toy", "benchmark: coco2014", "seeds: 0", "count: 100"]


def test_files_of_one_seed_complete_each_other_but_never_contradict():
    paper = inputs.read_paper("table2")
    parts = [record("gan-diffusion", fid=3.0), record("gan-diffusion", a100_days=0.5)]
    line = tables.aggregate_table("table2", ["gan-diffusion"], parts, paper, "toy", ["a100_days"]).iloc[0]
    assert (line["fid"], line["a100_days"]) == (3.0, 0.5)
    assert "a100_days" not in tables.aggregate_table("table2", ["gan-diffusion"], parts, paper, "toy"), (
        "nobody asked for it"
    )
    with pytest.raises(UserError, match="measures fid of seed 0 a second time"):
        tables.aggregate_table("table2", ["gan-diffusion"], [parts[0], parts[0]], paper, "toy")
    with pytest.raises(UserError, match="lacks fid for seed 1"):
        tables.aggregate_table(
            "table2", ["gan-diffusion"], [parts[0], record("gan-diffusion", 1, recall=0.5)], paper, "toy"
        )


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (record("gan-gigagan", scale="smoke", fid=1.0), "scale smoke"),
        (record("gan-gigagan", benchmark="coco2017", fid=1.0), "benchmark differs"),
        (record("gan-gigagan", recipe={"count": 99}, fid=1.0), "count differs"),
        (record("gan-gigagan", recipe={"count": 100, "resize_filter": "box"}, fid=1.0), "resize_filter differs"),
        (record("gan-typo", fid=1.0), "not a row of table2"),
    ],
)
def test_what_does_not_compare_is_refused(odd, message):
    usual = record("gan-diffusion", recipe={"count": 100, "resize_filter": "lanczos"}, fid=2.0)
    with pytest.raises(UserError, match=message):
        tables.aggregate_table(
            "table2", ["gan-gigagan", "gan-diffusion"], [usual, odd], inputs.read_paper("table2"), "toy"
        )


def test_a_row_from_nowhere_is_named_with_its_nearest():
    with pytest.raises(UserError, match="'gan-difusion'.*did you mean 'gan-diffusion'"):
        tables.aggregate_table("table2", ["gan-difusion"], [], inputs.read_paper("table2"), "toy")


def test_an_ablation_of_ones_own_is_a_row_without_reported_numbers():
    line = tables.aggregate_table(
        "table2", ["mine"], [record("mine", fid=1.0)], inputs.read_paper("table2"), "toy"
    ).iloc[0]
    assert line["label"] == "mine" and line["fid"] == 1.0 and pd.isna(line["fid_paper"])


def test_a_run_stands_in_every_table_but_only_beside_its_benchmark():
    frame = tables.aggregate_run("teacher-sd15", [record("teacher-sd15", fid=20.0)], inputs.read_paper())
    by_table = frame.set_index("table")
    assert list(by_table.index) == ["table2", "table3", "table4"]
    assert by_table.loc["table2", ["fid", "fid_paper"]].tolist() == [20.0, 8.74]
    assert pd.isna(by_table.loc["table4", "fid"]) and by_table.loc["table4", "fid_paper"] == 19.1
    assert by_table.loc["table4", "source"] == "reported"


def test_a_stand_in_benchmark_stands_beside_each_table():
    frame = tables.aggregate_run(
        "teacher-sd15", [record("teacher-sd15", benchmark="openmoji", fid=20.0)], inputs.read_paper()
    )
    assert frame["fid"].tolist() == [20.0] * 3 and set(frame["benchmark"]) == {"openmoji"}


def test_a_run_the_paper_lacks_has_a_line_for_each_benchmark():
    measured = [record("mine", benchmark=name, fid=fid) for name, fid in (("coco2014", 1.0), ("coco2017", 2.0))]
    frame = tables.aggregate_run("mine", measured, inputs.read_paper())
    assert frame["table"].isna().all() and frame["fid"].tolist() == [1.0, 2.0]


def test_a_run_of_another_name_is_refused():
    with pytest.raises(UserError, match="not of 'mine'"):
        tables.aggregate_run("mine", [record("gan-diffusion", fid=1.0)], inputs.read_paper())


def test_metrics_files_are_read_or_named(tmp_path):
    good, bad, poor = (tmp_path / name for name in ("good.json", "bad.json", "poor.json"))
    entry = record("mine", fid=1.5)
    del entry["path"]
    good.write_text(json.dumps(entry))
    bad.write_text("{")
    poor.write_text('{"run": "mine"}')
    assert inputs.read_metrics([good]) == [{**entry, "path": good}]
    for path in (bad, poor, tmp_path / "missing.json"):
        with pytest.raises(UserError, match=path.name):
            inputs.read_metrics([path])


def test_the_terminal_shows_both():
    rows = ["gan-diffusion", "teacher-sd15"]
    text = display.for_terminal(
        tables.aggregate_table("table2", rows, [record("gan-diffusion", fid=50.0)], inputs.read_paper("table2"), "toy")
    )
    assert "50 (12.04)" in text and " (8.74)" in text and "—" in text


def test_large_numbers_are_written_out():
    frame = tables.aggregate_table("table6", ["regression-lpips-500k"], [], inputs.read_paper("table6"), "toy")
    assert display.for_readers(frame)["saved images, paper"].tolist() == ["500000"]
    frame = frame.assign(fid=2479.3, fid_interval=204.1)
    assert display.for_readers(frame)["fid"].tolist() == ["2479 ± 204"]


RECORD = record("baseline-a100", fid=1.5, kid=2) | {"intervals": {"fid": 0.25}}


@fuzzed
@given(changed=mutated({name: value for name, value in RECORD.items() if name != "path"}))
def test_any_metrics_files_are_a_table_or_one_line(tmp_path, changed):
    path, other = tmp_path / "a.json", tmp_path / "b.json"
    path.write_text(json.dumps(changed))
    other.write_text(json.dumps(record("baseline-a100", seed=1, fid=2.5, kid=2) | {"path": None}))
    records = read(inputs.read_metrics, [path, other])
    if records is not None:
        read(tables.aggregate_table, "table9", ["baseline-a100"], records, inputs.read_paper("table9"), "toy")
        tables.per_seed(records)


@pytest.mark.parametrize("odd", ["NaN", "1e999", "null", '"1.5"', "true", "[1.5]"])
def test_a_metric_that_is_no_number_is_refused(tmp_path, odd):
    """The mean over the seeds would be NaN, an empty cell."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(RECORD | {"path": ""}).replace("1.5", odd, 1))
    with pytest.raises(UserError, match="a.json: metrics.fid is .*: make it again with score.py"):
        inputs.read_metrics([path])
