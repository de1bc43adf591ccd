"""The rules as a graph, as a table, and what their jobs took."""

import pandas as pd
import pytest

from diffusion2gan.report import workflow

DOT = """digraph snakemake_dag {
    node[shape=box, style=rounded];
\t0[label = "all", color = "0.02 0.6 0.85", style="rounded"];
\t1[label = "make_table\\ntable: table1", color = "0.33 0.6 0.85", style="rounded,dashed"];
\t2[label = "score\\nrun: a", color = "0.33 0.6 0.85", style="rounded"];
\t3[label = "score\\nrun: b", color = "0.33 0.6 0.85", style="rounded"];
\t4[label = "train\\nrun: b", color = "0.33 0.6 0.85", style="rounded"];
\t5[label = "train\\nrun: a", color = "0.33 0.6 0.85", style="rounded"];
\t1 -> 0
\t2 -> 1
\t3 -> 1
\t4 -> 3
\t5 -> 4
\t4 -> 1
}
"""


@pytest.fixture
def graph():
    return workflow.rule_graph(DOT)


def test_the_jobs_of_a_rule_are_one_node(graph):
    assert dict(graph.nodes("jobs")) == {"all": 1, "make_table": 1, "score": 2, "train": 2}
    assert set(graph.edges) == {
        ("make_table", "all"),
        ("score", "make_table"),
        ("train", "score"),
        ("train", "make_table"),
    }


def test_a_row_for_each_rule_with_its_jobs_and_what_it_needs(graph):
    timings = pd.DataFrame({"rule": ["train", "gone", "make_table"], "jobs": [1, 1, 1], "seconds": [9.0, 5.0, 0.5]})
    table = workflow.rule_table(graph, timings).set_index("rule")
    assert list(table.index[:2]) == ["train", "make_table"] and set(table.index[2:]) == {"all", "score"}
    assert table["jobs"].to_dict() == {"all": 1, "make_table": 1, "score": 2, "train": 2}, "of the graph"
    needs = {"all": ["make_table"], "make_table": ["score", "train"], "score": ["train"], "train": []}
    assert table["needs"].to_dict() == needs
    assert table.loc["train", "seconds"] == 9 and table["seconds"].isna().sum() == 2


def test_what_jobs_took_is_added_up_by_rule(tmp_path):
    (tmp_path / "train").mkdir()
    head = "s\th:m:s\tmax_rss\tcpu_time\n"
    (tmp_path / "train/a.tsv").write_text(f"{head}10.0\t0:00:10\t1024.0\t8.0\n")
    (tmp_path / "train/b.tsv").write_text(f"{head}5.0\t0:00:05\t2048.0\t4.0\n")
    (tmp_path / "make_table.tsv").write_text(f"{head}0.2\t0:00:00\t-\t-\n")
    longest, instant = workflow.read_timings(tmp_path).to_dict("records")
    assert longest == {"rule": "train", "jobs": 2, "seconds": 15.0}
    assert instant == {"rule": "make_table", "jobs": 1, "seconds": 0.2}


def test_nothing_timed_is_an_empty_table(tmp_path):
    assert workflow.read_timings(tmp_path).empty
