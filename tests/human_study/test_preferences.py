"""Answers of the human study: counted against numbers worked out by hand, and refused in a line."""

import math

import pandas as pd
import pytest
from fuzzed import damaged, fuzzed, read
from hypothesis import given
from hypothesis import strategies as st

from diffusion2gan.errors import UserError
from diffusion2gan.human_study import preferences
from diffusion2gan.human_study.preferences import krippendorff_alpha, wilson
from diffusion2gan.report import figures
from scripts.report import aggregate_human_study, make_figure6, rate_automatically

HEADER = "rater,question,trial,choice,seconds\n"


@pytest.fixture
def key(tmp_path):
    """Six trials of realism, two of alignment; the first row is on the left in those with even numbers."""
    lines = []
    for number in range(8):
        rows = ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")
        line = {"trial": f"t{number}", "question": "realism" if number < 6 else "alignment", "row": "ours"}
        line |= {"against": "theirs", "left": rows[0], "right": rows[1], "picture": number, "caption": "a fox"}
        lines.append(line)
    path = tmp_path / "key.csv"
    pd.DataFrame(lines).to_csv(path, index=False)
    return path


def file(folder, rater, choices, question="realism", first=0):
    """A rater's file: one letter per trial in order, l, r or t for left, right or tie."""
    words = {"l": "left", "r": "right", "t": "tie"}
    path = folder / f"{rater}.csv"
    lines = [f"{rater},{question},t{first + number},{words[each]},1.5\n" for number, each in enumerate(choices)]
    path.write_text(HEADER + "".join(lines))
    return path


def aggregate(key, people=(), automatic=()):
    out, raters = key.with_name("out.csv"), key.with_name("raters.csv")
    settings = {"scale": "smoke", "people": list(people), "automatic": list(automatic)}
    aggregate_human_study.main(aggregate_human_study.Arguments(key, out=out, raters=raters, **settings))
    return pd.read_csv(out), pd.read_csv(raters)


def test_wins_ties_and_intervals(key, tmp_path):
    """Ann prefers ours on t0, t1, t2, theirs on t3, t5, and says tie on t4; Bob ours on t0, theirs on t1."""
    rates, _ = aggregate(key, [file(tmp_path, "Ann", "lrlltl"), file(tmp_path, "Bob", "ll")])
    (line,) = rates.to_dict("records")
    counts = {
        name: line[name] for name in ("question", "rater_count", "wins", "losses", "ties", "n", "raters", "scale")
    }
    assert counts == {
        "question": "realism", "rater_count": 2, "wins": 4, "losses": 3, "ties": 1, "n": 8, "raters": "people",
        "scale": "smoke",
    }  # fmt: skip
    assert line["win_rate"] == pytest.approx(4 / 7, rel=1e-5)
    assert (line["win_rate_low"], line["win_rate_high"]) == pytest.approx(closed_form(4, 7), abs=1e-5)


def closed_form(wins, n, z=1.959964):
    """Wilson 1927: the centre is pulled towards a half."""
    share = wins / n
    centre, width = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - width) / (1 + z**2 / n), (centre + width) / (1 + z**2 / n)


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (5, 5), (81, 263)])
def test_wilson(wins, n):
    assert wilson(wins, n) == pytest.approx((wins / n, *closed_form(wins, n)), abs=1e-6)


def test_ties_alone_give_no_win_rate(key, tmp_path):
    rates, _ = aggregate(key, [file(tmp_path, "Ann", "tt")])
    assert rates["ties"].item() == 2 and rates[["win_rate", "win_rate_low", "alpha"]].isna().all(axis=None)


def test_krippendorffs_example():
    """Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D: four raters, twelve units."""
    raters = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = [[values[unit] for values in raters if values[unit] != "."] for unit in range(12)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1
    assert math.isnan(krippendorff_alpha([["a"], ["b"]])) and math.isnan(krippendorff_alpha([["a", "a"]]))


def test_agreement_with_most_of_the_others(key, tmp_path):
    files = [file(tmp_path, "Ann", "llrr"), file(tmp_path, "Bob", "lrrr"), file(tmp_path, "Eve", "llrl")]
    _, raters = aggregate(key, files)
    agreement = raters.set_index("rater")["agreement"]
    # Ann: Bob and Eve agree on t0 and t2 alone, and with her; Bob: the others agree on t0, t1, t2, he on t0 and t2
    assert agreement["Ann"] == 1 and agreement["Bob"] == pytest.approx(2 / 3, rel=1e-5)
    assert agreement["Eve"] == pytest.approx(2 / 3, rel=1e-5)


def test_one_side_always_is_a_warning(key, tmp_path, capsys):
    _, raters = aggregate(key, [file(tmp_path, "Ann", "llllll"), file(tmp_path, "Bob", "lllllr")])
    assert raters["warning"].tolist()[0] == "always left" and raters["warning"].isna().tolist() == [False, True]
    assert capsys.readouterr().err == "warning: Ann answered always left on realism\n"


def test_people_and_automatic_raters_are_never_counted_together(key, tmp_path):
    machine = file(tmp_path, "automatic-clip", "ll")
    rates, raters = aggregate(key, [file(tmp_path, "Ann", "ll")], [machine])
    assert rates["raters"].tolist() == ["people", "automatic"] and rates["n"].tolist() == [2, 2]
    assert raters["agreement"].isna().all()
    with pytest.raises(UserError, match="automatic-clip.csv, line 2: the rater is 'automatic-clip'"):
        aggregate(key, [machine])
    with pytest.raises(UserError, match="Ann.csv, line 2: the rater is 'Ann'"):
        aggregate(key, automatic=[tmp_path / "Ann.csv"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("rater;question;trial;choice;seconds\n", "line 1: the header must be rater,question,trial,choice,seconds"),
        (HEADER, "line 2: there are no answers"),
        (HEADER + "Ann,realism,t0,left,1\nAnn,realism,t1,left\n", "line 3: 4 cells instead of 5"),
        (HEADER + "Ann,realism,t0,left,1\nAnn,realism,t9,left,1\n", "line 3: there is no trial 't9'"),
        (HEADER + "Ann,alignment,t0,left,1\n", "line 2: trial t0 asks for realism, not 'alignment'"),
        (HEADER + "Ann,realism,t0,top,1\n", "line 2: the choice is 'top'"),
        (HEADER + "Ann,realism,t0,left,soon\n", "line 2: 'soon' is not a number of seconds"),
        (HEADER + "Ann,realism,t0,left,nan\n", "line 2: 'nan' is not a number of seconds"),
        (HEADER + " ,realism,t0,left,1\n", "line 2: the rater is ' '"),
        (HEADER + "Ann,realism,t0,left,1\nAnn,realism,t0,right,1\n", "line 3: Ann answered trial t0 already, in "),
        (HEADER + 'Ann,realism,t0,left,"1\n', "cannot be read as csv"),
        (HEADER.encode("utf-16"), "cannot be read as csv"),
    ],
)
def test_bad_files_are_refused_in_a_line(key, tmp_path, lines, message):
    path = tmp_path / "ann.csv"
    path.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(UserError) as error:
        aggregate(key, [path])
    assert str(path) in str(error.value) and message in str(error.value) and "\n" not in str(error.value)
    assert not key.with_name("out.csv").exists()


def test_the_same_answers_in_two_files_are_refused(key, tmp_path):
    first = file(tmp_path, "Ann", "l")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=r"copy.csv, line 2: Ann answered trial t0 already, in .*Ann.csv, line 2"):
        aggregate(key, [first, copy])


def test_missing_answers_and_a_missing_key_are_errors(key, tmp_path):
    said = "^nobody has answered: give the raters' files as --people or --automatic$"
    with pytest.raises(UserError, match=said):
        aggregate(key)
    with pytest.raises(UserError, match="is not a key, it lacks against"):
        aggregate(file(tmp_path, "Ann", "l"), [tmp_path / "Ann.csv"])


def test_the_automatic_rater_takes_the_side_of_the_higher_score(key):
    scores = {
        row: pd.DataFrame({"realism": realism, "alignment": [0.0] * 8}, index=range(8))
        for row, realism in (("ours", [2.0] * 8), ("theirs", [1.0, 1.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0]))
    }
    chosen = [rate_automatically.choose(trial, scores) for trial in preferences.read_key(key).itertuples()]
    assert chosen == ["left", "right", "right", "left", "tie", "tie", "tie", "tie"]


def test_reported_rates_are_never_shown_as_measured(key, tmp_path, monkeypatch):
    """Each source has panels of its own, and says who answered."""
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, *rest: drawn.append(figure))
    aggregate(key, automatic=[file(tmp_path, "automatic-clip", "lrl")])
    make_figure6.main(make_figure6.Arguments(key.with_name("out.csv"), tmp_path / "figure6.png"))
    automatic, paper = drawn[0].axes[:2], drawn[0].axes[2:]
    assert [axes.get_title().split("\n")[:2] for axes in automatic] == [
        ["realism", "automatic rater (CLIP), not a person"],
        ["alignment", "automatic rater (CLIP), not a person"],
    ]
    assert all("reported by the paper, read off" in axes.get_title() for axes in paper)
    assert [bar.get_width() for bar in automatic[0].patches] == [100, 0] and not automatic[1].patches
    assert sorted(bar.get_width() for bar in paper[0].patches[:5]) == pytest.approx([41.7, 47.2, 50.8, 54.8, 87.2])
    assert automatic[0].collections and not paper[0].collections  # only what was measured has an interval


def test_a_pair_with_answers_to_one_question_keeps_its_bar_in_line(key):
    frame = pd.DataFrame({"question": ["realism", "realism", "alignment"], "row": ["a", "b", "b"], "against": "c"})
    left, right = figures.preferences({"people": frame.assign(win_rate=[0.1, 0.2, 0.3])}).axes
    places = {bar.get_width(): bar.get_y() for bar in (*left.patches, *right.patches)}
    assert places[10] != places[20] == places[30]


@fuzzed
@given(data=st.data(), which=st.sampled_from(["key", "answers"]))
def test_any_key_and_any_answers_are_read_or_told_in_one_line(tmp_path, data, which):
    whole = {
        "key": b"trial,question,row,against,left,right,picture,caption\nt0,realism,a,b,a,b,3,None\nt1,x,a,b,b,a,4,x\n",
        "answers": HEADER.encode() + b"Ann,realism,t0,left,1.5\nBob,realism,t0,tie,2\nAnn,x,t1,right,2\n",
    }
    whole[which] = data.draw(damaged(whole[which]) | st.binary(max_size=60))
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    key = read(preferences.read_key, tmp_path / "key")
    if key is not None:
        read(preferences.read_answers, [tmp_path / "answers"], key, "people")


def test_a_caption_may_be_a_word_that_pandas_takes_for_nothing(tmp_path):
    (tmp_path / "key").write_text("trial,question,row,against,left,right,picture,caption\nt0,realism,a,b,a,b,3,None\n")
    assert preferences.read_key(tmp_path / "key")["caption"].tolist() == ["None"]


def test_a_key_with_a_trial_twice_is_refused(tmp_path):
    line = "t0,realism,a,b,a,b,3,a fox\n"
    (tmp_path / "key").write_text(f"trial,question,row,against,left,right,picture,caption\n{line}{line}")
    with pytest.raises(UserError, match="key has the trial t0 twice"):
        preferences.read_key(tmp_path / "key")
