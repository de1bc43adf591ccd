"""The workflow as it ran: which rule needs which, how many jobs each has, and what they cost.

It reads what Snakemake writes: a graph of the jobs in the dot language, and a table of timings for each job.
"""

import re
from collections import Counter
from pathlib import Path

import networkx as nx
import pandas as pd

from diffusion2gan.study.cost import took


def rule_graph(dot: str) -> nx.DiGraph:
    """The rules in the output of `snakemake --dag dot`, with their number of `jobs`.

    An edge goes from a rule to a rule that needs it.
    """
    rule_of = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)', dot, re.MULTILINE))
    graph = nx.DiGraph()
    for rule, jobs in Counter(rule_of.values()).items():
        graph.add_node(rule, jobs=jobs)
    needs = re.findall(r"^\s*(\d+) -> (\d+)$", dot, re.MULTILINE)
    graph.add_edges_from((rule_of[a], rule_of[b]) for a, b in needs if rule_of[a] != rule_of[b])
    return graph


def read_timings(folder: Path) -> pd.DataFrame:
    """The seconds of the jobs of each rule, longest first: rule, jobs, seconds.

    It sums Snakemake's tables `{rule}.tsv` and `{rule}/*.tsv`. An interrupted training counts from its last start.
    Their columns of memory and processor time are not read: Snakemake samples them in the processes that it started,
    and `prefork.py` runs a job in another one.
    """
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).with_suffix("").parts[0]
        rows.append({"rule": rule, "jobs": 1, "seconds": took(path)})
    frame = pd.DataFrame(rows, columns=["rule", "jobs", "seconds"])
    return frame.groupby("rule", as_index=False).sum().sort_values("seconds", ascending=False, ignore_index=True)


def rule_table(graph: nx.DiGraph, timings: pd.DataFrame) -> pd.DataFrame:
    """The rules of the graph: those in `timings` in its order, then the others; with `jobs` and what each `needs`."""
    timed = timings[timings["rule"].isin(graph)].drop(columns="jobs")
    table = timed.merge(pd.DataFrame({"rule": list(graph), "jobs": list(dict(graph.nodes("jobs")).values())}), "outer")
    table["needs"] = [sorted(graph.predecessors(rule)) for rule in table["rule"]]
    return table.sort_values("seconds", ascending=False, ignore_index=True, kind="stable")
