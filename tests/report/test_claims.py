"""Checks on made-up tables, and the project's own claims on the paper's numbers."""

import statistics
from pathlib import Path

import pandas as pd
import pytest
import yaml
from fuzzed import damaged, fuzzed, mutated, read
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from diffusion2gan.errors import UserError
from diffusion2gan.report import claims, inputs
from diffusion2gan.report.tables import seeds_needed
from scripts.report import check_claims

ROOT = Path(__file__).parents[2]
OWN = claims.read_claims(ROOT / "claims.yaml")

# Sec. 3.2, of one image on an A100: milliseconds, and memory, of which only ratios are compared, in gigabytes
FIGURE2 = pd.DataFrame(
    [
        ("LPIPS", 117, 15.0), ("LPIPS-decode", 79, None), ("LPIPS-trunk", 38, None), ("E-LatentLPIPS", 12.1, 0.6),
        ("E-LatentLPIPS-trunk", 8, None), ("E-LatentLPIPS-augmentation", 4, None),
    ],
    columns=["row", "milliseconds", "mebibytes"],
)  # fmt: skip
FIGURE3 = pd.DataFrame({"row": ["lpips", "latent-lpips", "e-latent-lpips-bgco"]})  # pictures only
# Figure 6: how many of 100 answers preferred Diffusion2GAN's picture
FIGURE6 = pd.DataFrame(
    [
        ("realism", "diffusion2gan", "instaflow", 87.2), ("alignment", "diffusion2gan", "instaflow", 79.0),
        ("realism", "sdxl-diffusion2gan", "sdxl-turbo", 54.8), ("alignment", "sdxl-diffusion2gan", "sdxl-turbo", 51.6),
        ("realism", "sdxl-diffusion2gan", "sdxl-lightning", 50.8),
        ("alignment", "sdxl-diffusion2gan", "sdxl-lightning", 63.0),
    ],
    columns=["question", "row", "against", "percent"],
)  # fmt: skip
FIGURE6 = FIGURE6.assign(win_rate=FIGURE6["percent"] / 100, raters="people")
CONTRADICTED = ["z-conditioning-helps-in-all"]  # by the paper's own table


def stated(*checks):
    return {"says": "so", "section": "1", "table": "table1", "checks": list(checks)}


@pytest.fixture
def table():
    return pd.DataFrame(
        [("a", 0, 1.0), ("a", 1, 1.1), ("b", 0, 4.0), ("b", 1, 4.11), ("c", 0, 9.0), ("c", 1, 1.0), ("d", 0, None)],
        columns=["row", "seed", "fid"],
    )


@pytest.fixture
def judge(table, tmp_path):
    """Judge a claim with some checks, read from a file, on a table."""

    def judge(*checks, table=table):
        (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"one": stated(*checks)}))
        return claims.judge(claims.read_claims(tmp_path / "claims.yaml")["one"], table)

    return judge


@pytest.fixture
def verdicts(judge):
    return lambda *checks: [line["verdict"] for line in judge(*checks)]


def test_a_comparison_is_decided_by_the_interval_over_the_seeds(verdicts):
    assert verdicts(["fid", "a", "<", "b"]) == verdicts(["fid", "b", ">", "a"]) == ["holds"]
    assert verdicts(["fid", "a", ">", "b"]) == ["fails"]
    assert verdicts(["fid", "a", "<", "c"]) == verdicts(["fid", "a", ">", "c"]) == ["undecided"]
    assert verdicts(["fid", "a", "<", "a"]) == ["fails"], "they are equal for every seed"


@pytest.mark.parametrize(("values", "needed"), [((-3.0, -5.0), 3), ((0.1, 0.9), 8), ((-1.0, 1.001), None)])
def test_the_seeds_that_would_decide_a_difference_with_the_same_mean_and_deviation(values, needed):
    assert seeds_needed(values) == needed
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    significant = [n for n in range(2, 101) if 2 * t.sf(abs(mean) * n**0.5 / deviation, n - 1) < 0.05]
    assert next(iter(significant), None) == needed


def test_over_seeds_a_difference_has_an_interval(judge, table):
    spread = table.assign(fid=[1.0, 2.0, 4.0, 7.0, 9.0, 1.0, None])
    (line,) = judge(["fid", "a", "<", "b"], table=spread)
    width = 12.7062 * 2**0.5 / 2**0.5  # Student's t for one degree of freedom, of the differences -3 and -5
    assert line.pop("low") == pytest.approx(-4 - width, rel=1e-5)
    assert line.pop("high") == pytest.approx(-4 + width, rel=1e-5)
    assert line == {
        "check": "fid(a) < fid(b)", "verdict": "undecided", "left": 1.5, "right": 5.5, "difference": -4.0,
        "seeds": 2, "seeds_needed": 3,
    }  # fmt: skip
    (alone,) = judge(["fid", "a", "<", "b"], table=table[table["seed"] == 0])
    assert (alone["seeds"], alone["verdict"]) == (1, "holds") and not {"low", "high", "seeds_needed"} & alone.keys()


def test_a_factor_and_several_rows(verdicts, judge):
    assert verdicts(["fid", 2, "a", "<", "b"]) == ["holds"]
    assert verdicts(["fid", 10, "a", "<", "b"]) == ["fails"], "10 is not less than 4"
    assert verdicts(["fid", "b", ">", 0.5, "a"]) == ["holds"]
    (doubled,) = judge(["fid", 2, "a", "<", "b"])
    assert doubled["left"] == pytest.approx(2.1) and doubled["check"] == "2 * fid(a) < fid(b)"
    assert judge(["fid", "b", ">", 0.5, "a"])[0]["check"] == "fid(b) > 0.5 * fid(a)"
    assert verdicts(["fid", "a", "<", "b", "<", "c"]) == ["holds", "undecided"]
    assert verdicts(["fid", "a", "<", "b"], ["fid", "a", "<", "d"]) == ["holds", "not measured"]


def test_a_comparison_of_fids_counts_in_both_feature_spaces(judge, table):
    """It is undecided where they disagree."""
    second = table.assign(fid_second=[1.0, 1.1, 0.5, 0.61, 9.0, 9.1, None])  # b is better than a here, c worse
    lines = judge(["fid", 2, "a", "<", "b"], table=second)
    assert [line["check"] for line in lines] == ["2 * fid(a) < fid(b)", "2 * fid_second(a) < fid_second(b)"]
    assert [line["verdict"] for line in lines] == ["holds", "fails"] and claims.verdict(lines) == "undecided"
    assert claims.verdict(judge(["fid", "a", "<", "b"], ["fid", "a", "<", "d"], table=second)) == "not measured"
    agree = table.assign(fid_second=2 * table["fid"])
    assert claims.verdict(judge(["fid", "a", "<", "b"], table=agree)) == "holds"
    assert claims.verdict(judge(["fid", "a", ">", "b"], table=agree)) == "fails"
    assert claims.verdict(judge(["fid", "a", "<", "b"], ["fid", "b", "<", "a"], table=second)) == "undecided"


def test_a_claim_holds_where_all_of_it_does(judge):
    def verdict(*checks):
        return claims.verdict(judge(*checks))

    assert verdict(["fid", "a", "<", "b"], ["fid", "b", ">", "a"]) == "holds"
    assert verdict(["fid", "a", "<", "b"], ["fid", "a", "<", "d"]) == "not measured"
    assert verdict(["fid", "a", "<", "d"], ["fid", "a", ">", "b"]) == "fails"
    assert verdict(["fid", "a", "<", "b"], ["fid", "a", "<", "c"]) == "undecided"
    assert verdict(["fid", "a", "<", "c"], ["fid", "a", "<", "d"]) == "not measured"


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (["fid", "a", "<", "d"], "fid(a) < fid(d)"),
        (["fid", "a", "<", "e"], "fid(a) < fid(e)"),
        (["recall", "a", ">", "b"], "recall(a) > recall(b)"),
    ],
)
def test_what_was_not_measured_is_not_judged(check, text, judge):
    assert judge(check) == [{"check": text, "verdict": "not measured"}]


@pytest.mark.parametrize(
    "check",
    [
        ["fid", "a", "<", "recall", "b"], ["fid", "a"], ["fid", "a", "<", 2], ["fid", "a", "<", "b", ">", "c"], ["fid"],
        ["fid", "a", "b"], ["fid", 2, 3, "a", "<", "b"], ["fid", "a", "=", "b"], ["fid", "a", "<", ["b"]], [],
        [2, "a", "<", "b"], "fid(a) < fid(b)", ["fid", True, "a", "<", "b"], ["fid", float("nan"), "a", "<", "b"],
        ["fid", -1, "a", "<", "b"],
    ],
)  # fmt: skip
def test_a_check_of_another_form_is_told(check, tmp_path):
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"odd": stated(["fid", "a", "<", "b"], check)}))
    with pytest.raises(UserError, match="the claim 'odd'") as error:
        claims.read_claims(tmp_path / "claims.yaml")
    assert "\n" not in str(error.value) and str(check) in str(error.value)


FEW = {"one": stated(["fid", 2, "a", "<", "b"])}
ODD = [
    "",
    "!!int ''",
    "!!bool x",
    "!!timestamp x",
    "2020-99-99",
    "? [a]\n: b",
    "[" * 3000,
    "a: &a {checks: [*a]}",
    "- a",
]


@fuzzed
@given(
    content=st.binary(max_size=40) | damaged(yaml.safe_dump(FEW).encode()) | st.sampled_from(ODD).map(str.encode)
    | mutated(FEW).map(lambda tree: yaml.safe_dump(tree).encode())
)  # fmt: skip
def test_any_file_of_claims_is_read_or_told_in_one_line(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_bytes(content)
    for claim in (read(claims.read_claims, path) or {}).values():
        assert claim["says"] and all(isinstance(each, claims.Comparison) for each in claim["comparisons"])


@pytest.mark.parametrize("odd", ["inf", "1.5 (old)"])
def test_a_cell_that_is_no_number_is_not_judged(odd, judge, table):
    """An infinite FID would be larger than any other."""
    table = table.astype({"fid": object})
    table.loc[2, "fid"] = float(odd) if odd == "inf" else odd
    with pytest.raises(UserError, match=r"the fid of b is (infinite|not a number .*): make its table again"):
        judge(["fid", "a", "<", "b"], table=table)


@pytest.mark.parametrize("key", ["section", "says", "table", "checks"])
def test_a_claim_that_lacks_something_is_told(key, tmp_path):
    claim = {name: value for name, value in stated(["fid", "a", "<", "b"]).items() if name != key}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"odd": claim}))
    with pytest.raises(UserError, match=f"the claim 'odd' in .* has no {key}"):
        claims.read_claims(tmp_path / "claims.yaml")


def reported(name):
    """The paper's numbers as a table of one seed."""
    figures = {"figure2": FIGURE2, "figure3": FIGURE3, "human_study": check_claims.preferences(FIGURE6)}
    if name in figures:
        return figures[name].assign(seed=0)
    numbers = inputs.read_paper(name).pivot(index="row", columns="metric", values="value")
    return numbers.reset_index().assign(seed=0)


@pytest.mark.parametrize("name", OWN)
def test_a_claim_is_what_the_papers_numbers_say(name):
    verdict = claims.verdict(claims.judge(OWN[name], reported(OWN[name]["table"])))
    if name in CONTRADICTED:
        assert verdict == "fails" and "contradicts" in OWN[name]["note"]
    else:
        assert verdict == ("not measured" if OWN[name]["table"] == "figure3" else "holds")


@pytest.mark.parametrize("name", OWN)
def test_a_claim_is_about_rows_and_metrics_of_its_table(name):
    """A misspelt row would never be measured, and nobody would notice."""
    table, study = OWN[name]["table"], yaml.safe_load((ROOT / "config.yaml").read_text())["tables"]
    known = set(reported(table)["row"])
    for comparison in OWN[name]["comparisons"]:
        for term in (comparison.left, comparison.right):
            assert term.row in known
            assert table not in study or term.row in study[table]["rows"]
            assert table not in study or term.metric in [*study[table]["metrics"], "a100_days"]


def test_an_automatic_rater_is_no_person(tmp_path):
    def verdict(rates):
        rates.to_csv(tmp_path / "human_study.csv", index=False)
        files = tmp_path / "claims.csv", tmp_path / "claims.md"
        arguments = check_claims.Arguments(ROOT / "claims.yaml", [tmp_path / "human_study.csv"], "toy", *files)
        check_claims.main(arguments)
        found = pd.read_csv(files[0])
        return set(found.loc[found["table"] == "human_study", "verdict"])

    automatic = FIGURE6.assign(raters="automatic")
    assert verdict(automatic) == {"not measured"}
    assert verdict(FIGURE6) == {"holds"}
    assert verdict(pd.concat([FIGURE6.assign(win_rate=0.2), automatic])) == {"fails"}


def test_the_files_say_what_holds_and_by_how_much(tmp_path, table, capsys):
    table.to_csv(tmp_path / "table1.csv", index=False)
    (tmp_path / "claims.yaml").write_text(
        "one: {section: '3.2', says: It falls, table: table1, checks: [[fid, a, <, b], [fid, a, '>', b]], note: Odd.}\n"
        "two: {section: '4.1', says: It rises, table: table1, checks: [[fid, a, <, c]]}\n"
        "three: {section: '4.2', says: No matter, table: table2, checks: [[fid, a, <, b]]}\n"
    )
    out, page = tmp_path / "out/claims.csv", tmp_path / "pages/claims.md"
    check_claims.main(check_claims.Arguments(tmp_path / "claims.yaml", [tmp_path / "table1.csv"], "toy", out, page))
    found = pd.read_csv(out, dtype={"section": str})
    assert list(found["claim"]) == ["one", "one", "two", "three"]
    assert list(found["verdict"]) == ["holds", "fails", "undecided", "not measured"]
    assert list(found["check"])[:2] == ["fid(a) < fid(b)", "fid(a) > fid(b)"]
    first = found.iloc[0]
    assert (first["section"], first["table"], first["scale"], first["note"]) == ("3.2", "table1", "toy", "Odd.")
    assert (first["left"], first["right"], first["difference"], first["seeds"]) == (1.05, 4.055, -3.005, 2)
    assert found["seeds_needed"].dropna().tolist() == [11]
    text = page.read_text()
    assert "0 of 3 claims hold, 1 are undecided, 1 fail and 1 are not measured" in text
    assert "<br>✗ `fid(a) > fid(b)`: 1.05 and 4.055" in text
    one, two, three = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert one.startswith(
        "| ✗ fails | 3.2 | It falls <br>*Odd.* | ✓ `fid(a) < fid(b)`: 1.05 and 4.055, difference -3 ("
    )
    assert two.startswith("| ? undecided | 4.1 | It rises |") and ", 11 seeds would decide |" in two
    assert three == "| – not measured | 4.2 | No matter | – `fid(a) < fid(b)` |"
    assert "fails         one" in capsys.readouterr().out
