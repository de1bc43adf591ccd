"""Checks on made-up tables, and the project's own claims on the numbers that the paper reports."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from diffusion2gan.errors import UserError
from diffusion2gan.report import claims, tables
from scripts.report import check_claims

ROOT = Path(__file__).parents[2]
OWN = claims.read(ROOT / "claims.yaml")

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


def claim(check):
    return {"says": "so", "section": "1", "table": "table1", "check": check}


@pytest.fixture
def table():
    return pd.DataFrame(
        [("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 4.0), ("b", 1, 7.0), ("c", 0, 9.0), ("c", 1, 1.0), ("d", 0, None)],
        columns=["row", "seed", "fid"],
    )


def verdicts(check, table):
    return [line["verdict"] for line in claims.judge(claim(check), table)]


def test_a_comparison_holds_when_it_does_for_every_seed(table):
    assert verdicts("fid(a) < fid(b)", table) == verdicts("fid(b) > fid(a)", table) == ["holds"]
    assert verdicts("fid(a) > fid(b)", table) == ["fails"]
    assert verdicts("fid(a) < fid(c)", table) == ["fails"], "but for one of its two seeds"


def test_over_seeds_a_difference_has_an_interval(table):
    (line,) = claims.judge(claim("fid(a) < fid(b)"), table)
    width = 12.7062 * 2**0.5 / 2**0.5  # Student's t for one degree of freedom, of the differences -3 and -5
    assert line.pop("low") == pytest.approx(-4 - width, rel=1e-5)
    assert line.pop("high") == pytest.approx(-4 + width, rel=1e-5)
    assert line == {
        "check": "fid(a) < fid(b)", "verdict": "holds", "left": 1.5, "right": 5.5, "difference": -4.0,
        "seeds": 2, "clear": "no",
    }  # fmt: skip
    steady = table.assign(fid=[1.0, 2.0, 4.0, 5.01, 9.0, 1.0, None])
    assert claims.judge(claim("fid(a) < fid(b)"), steady)[0]["clear"] == "yes"
    (alone,) = claims.judge(claim("fid(a) < fid(b)"), table[table["seed"] == 0])
    assert alone["seeds"] == 1 and not {"low", "high", "clear"} & alone.keys()


def test_a_factor_and_several_rows(table):
    assert verdicts("2 * fid(a) < fid(b)", table) == ["holds"]
    assert verdicts("4 * fid(a) < fid(b)", table) == ["fails"], "4 is not less than 4"
    assert verdicts("fid(b) > 0.5 * fid(a)", table) == ["holds"]
    assert claims.judge(claim("2 * fid(a) < fid(b)"), table)[0]["left"] == 3.0
    assert verdicts("fid(a) < fid(b) < fid(c)", table) == ["holds", "fails"]
    assert verdicts(["fid(a) < fid(b)", "fid(a) < fid(d)"], table) == ["holds", "not measured"]


def test_a_claim_holds_where_all_of_it_does(table):
    def verdict(*checks):
        return claims.verdict(claims.judge(claim(list(checks)), table))

    assert verdict("fid(a) < fid(b)", "fid(b) > fid(a)") == "holds"
    assert verdict("fid(a) < fid(b)", "fid(a) < fid(d)") == "not measured"
    assert verdict("fid(a) < fid(d)", "fid(a) > fid(b)") == "fails"


@pytest.mark.parametrize("check", ["fid(a) < fid(d)", "fid(a) < fid(e)", "recall(a) > recall(b)"])
def test_what_was_not_measured_is_not_judged(check, table):
    assert claims.judge(claim(check), table) == [{"check": check, "verdict": "not measured"}]


@pytest.mark.parametrize(
    "check", ["fid(a) < recall(b)", "fid(a)", "fid(a) < 2", "fid(a) < fid(b) > fid(c)", ["fid(a) < fid(b)", "fid(a)"]]
)
def test_a_check_of_another_form_is_told(check, tmp_path):
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"odd": claim(check)}))
    with pytest.raises(UserError, match="claim 'odd'"):
        claims.read(tmp_path / "claims.yaml")


def reported(name):
    """What the paper reports, as a table of one seed."""
    figures = {"figure2": FIGURE2, "figure3": FIGURE3, "human_study": check_claims.preferences(FIGURE6)}
    if name in figures:
        return figures[name].assign(seed=0)
    numbers = tables.reported(name).pivot(index="row", columns="metric", values="value")
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
    """A name that is no row's would never be measured, and nobody would notice."""
    table, study = OWN[name]["table"], yaml.safe_load((ROOT / "config.yaml").read_text())["tables"]
    known = set(reported(table)["row"])
    for left, _, right in claims.comparisons(OWN[name]):
        for side in (left, right):
            metric, row = re.fullmatch(r"(?:\S+ \* )?(\w+)\((.+)\)", side).groups()
            assert row in known
            assert table not in study or row in study[table]["rows"]
            assert table not in study or metric in [*study[table]["metrics"], "a100_days"]


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
        "one: {section: '3.2', says: It falls, table: table1, check: fid(a) < fid(b) < fid(c), note: Odd.}\n"
        "two: {section: '4.1', says: It rises, table: table1, check: fid(a) < fid(b)}\n"
        "three: {section: '4.2', says: No matter, table: table2, check: fid(a) < fid(b)}\n"
    )
    out, page = tmp_path / "out/claims.csv", tmp_path / "pages/claims.md"
    check_claims.main(check_claims.Arguments(tmp_path / "claims.yaml", [tmp_path / "table1.csv"], "toy", out, page))
    found = pd.read_csv(out, dtype={"section": str})
    assert list(found["claim"]) == ["one", "one", "two", "three"]
    assert list(found["verdict"]) == ["holds", "fails", "holds", "not measured"]
    assert list(found["check"])[:2] == ["fid(a) < fid(b)", "fid(b) < fid(c)"]
    first = found.iloc[0]
    assert (first["section"], first["table"], first["scale"], first["note"]) == ("3.2", "table1", "toy", "Odd.")
    assert (first["left"], first["right"], first["difference"], first["seeds"], first["clear"]) == (
        1.5,
        5.5,
        -4,
        2,
        "no",
    )
    text = page.read_text()
    assert "of 3 claims 1 hold, 1 fail and 1 are not measured" in text
    assert "<br>✗ `fid(b) < fid(c)`: 5.5 and 5" in text
    one, two, three = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert one.startswith("| ✗ fails | 3.2 | It falls <br>*Odd.* | ✓ `fid(a) < fid(b)`: 1.5 and 5.5, difference -4 (")
    assert two.startswith("| ✓ holds | 4.1 | It rises |") and ", not clear" in two
    assert three == "| – not measured | 4.2 | No matter | – `fid(a) < fid(b)` |"
    assert "fails         one" in capsys.readouterr().out
