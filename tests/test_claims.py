from pathlib import Path

import pandas as pd
import pytest

from diffusion2gan import claims, tables
from diffusion2gan.errors import UserError

ROOT = Path(__file__).parents[1]


def claim(check):
    return {"says": "so", "table": "table1", "check": check}


@pytest.fixture
def table():
    return pd.DataFrame(
        [("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 4.0), ("b", 1, 7.0), ("c", 0, 9.0), ("c", 1, 1.0), ("d", 0, None)],
        columns=["row", "seed", "fid"],
    )


def test_a_claim_holds_when_it_does_for_every_seed(table):
    verdict = claims.judge(claim("fid(a) < fid(b)"), table)
    assert verdict == {"verdict": "holds", "left": 1.5, "right": 5.5, "least": -5.0, "most": -3.0, "seeds": 2}
    assert claims.judge(claim("fid(b) > fid(a)"), table)["verdict"] == "holds"
    assert claims.judge(claim("fid(a) > fid(b)"), table)["verdict"] == "fails"
    assert claims.judge(claim("fid(a) < fid(c)"), table)["verdict"] == "fails"  # but for one of its two seeds


@pytest.mark.parametrize("check", ["fid(a) < fid(d)", "fid(a) < fid(e)", "recall(a) > recall(b)"])
def test_what_was_not_measured_is_not_judged(check, table):
    assert claims.judge(claim(check), table) == {"verdict": "not measured"}


def test_a_check_of_another_form_is_told(tmp_path):
    (tmp_path / "claims.yaml").write_text("odd: {says: so, table: table1, check: fid(a) < recall(b)}")
    with pytest.raises(UserError, match="claim 'odd'"):
        claims.read(tmp_path / "claims.yaml")


def test_the_projects_own_claims_are_what_the_papers_numbers_say():
    paper, judged = tables.reported().assign(seed=0), 0
    for name, each in claims.read(ROOT / "claims.yaml").items():
        numbers = paper[paper["table"] == each["table"].removeprefix("table")]
        verdict = claims.judge(
            each, numbers.pivot(index=["row", "seed"], columns="metric", values="value").reset_index()
        )
        assert verdict["verdict"] != "fails", name
        judged += verdict["verdict"] == "holds"
    assert judged >= 20
