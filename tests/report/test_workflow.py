"""The rules as a graph, what their jobs took, and where they stand on the page."""

from itertools import combinations

import networkx as nx
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


def test_every_rule_stands_above_what_needs_it(graph):
    drawing = workflow.draw(graph)
    tops = {rule: top for rule, (_, top) in drawing.boxes.items()}
    assert tops["train"] < tops["score"] < tops["make_table"] < tops["all"]
    assert len(drawing.edges) == 3, "what a longer way implies is left out"


def test_boxes_do_not_overlap_and_long_edges_pass_between_them():
    graph = nx.DiGraph(
        [("a", "b"), ("b", "c"), ("c", "z"), ("a", "x"), ("x", "y"), ("y", "z"), ("a", "long"), ("long", "z")]
    )
    nx.set_node_attributes(graph, 1, "jobs")
    drawing = workflow.draw(graph)
    for (left, top), (other, its_top) in combinations(drawing.boxes.values(), 2):
        assert top != its_top or abs(left - other) >= workflow.WIDTH + workflow.GAP
    inside = [
        (x, y)
        for edge in drawing.edges
        for x, y in edge[1:-1]
        for left, top in drawing.boxes.values()
        if left < x < left + workflow.WIDTH and top <= y <= top + workflow.HEIGHT
    ]
    assert not inside and all(len(edge) % 2 == 0 for edge in drawing.edges)
    assert max(x for x, _ in drawing.boxes.values()) + workflow.WIDTH <= drawing.width


def test_what_jobs_took_is_added_up_by_rule(tmp_path):
    (tmp_path / "train").mkdir()
    head = "s\th:m:s\tmax_rss\tcpu_time\n"
    (tmp_path / "train/a.tsv").write_text(f"{head}10.0\t0:00:10\t1024.0\t8.0\n")
    (tmp_path / "train/b.tsv").write_text(f"{head}5.0\t0:00:05\t2048.0\t4.0\n")
    (tmp_path / "make_table.tsv").write_text(f"{head}0.2\t0:00:00\t-\t-\n")
    longest, instant = workflow.spent(tmp_path).to_dict("records")
    assert longest == {"rule": "train", "jobs": 2, "seconds": 15.0, "cpu_seconds": 12.0, "peak_gib": 2.0}
    assert instant["rule"] == "make_table" and instant["peak_gib"] != instant["peak_gib"]


def test_nothing_timed_is_an_empty_table(tmp_path):
    assert workflow.spent(tmp_path).empty
