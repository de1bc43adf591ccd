"""The workflow as it ran: its rules as a graph, how many jobs each has, and what those took.

It reads what Snakemake writes, a graph in the dot language and a table beside every job, and imports nothing of it.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean

import networkx as nx
import pandas as pd

WIDTH, HEIGHT, GAP, LAYER = 132, 36, 16, 68  # of a box, between two of a layer, from layer to layer; pixels
SWEEPS = 4


def rule_graph(dot: str) -> nx.DiGraph:
    """The rules in the output of `snakemake --dag dot`, each with its number of `jobs`; edges go to who needs it."""
    rule_of = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)', dot, re.MULTILINE))
    graph = nx.DiGraph()
    for rule, jobs in Counter(rule_of.values()).items():
        graph.add_node(rule, jobs=jobs)
    needs = re.findall(r"^\s*(\d+) -> (\d+)$", dot, re.MULTILINE)
    graph.add_edges_from((rule_of[a], rule_of[b]) for a, b in needs if rule_of[a] != rule_of[b])
    return graph


def spent(folder: Path) -> pd.DataFrame:
    """What the jobs of each rule took, the longest first: rule, jobs, seconds, cpu_seconds, peak_gib.

    From Snakemake's tables `{rule}.tsv` and `{rule}/*.tsv`. What it could not sample, as of a job of an instant, is
    NaN. A training that went on after an interruption counts from its last start.
    """
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        took = pd.read_csv(path, sep="\t", na_values="-")
        rows.append(
            {
                "rule": path.relative_to(folder).with_suffix("").parts[0],
                "jobs": 1,
                "seconds": took["s"].sum(),
                "cpu_seconds": took["cpu_time"].sum(min_count=1),
                "peak_gib": took["max_rss"].max() / 1024,
            }
        )
    frame = pd.DataFrame(rows, columns=["rule", "jobs", "seconds", "cpu_seconds", "peak_gib"])
    of_rule = frame.groupby("rule", as_index=False).agg(
        {"jobs": "sum", "seconds": "sum", "cpu_seconds": lambda each: each.sum(min_count=1), "peak_gib": "max"}
    )
    return of_rule.sort_values("seconds", ascending=False, ignore_index=True)


@dataclass(frozen=True)
class Drawing:
    """A graph on a plane: the left upper corner of each rule's box, and the corners of each edge, in pixels."""

    boxes: dict[str, tuple[float, float]]
    edges: list[list[tuple[float, float]]]
    width: float
    height: float


def draw(graph: nx.DiGraph) -> Drawing:
    """Rules in layers, each as low as what needs it allows; an edge that a longer way implies is left out.

    After Sugiyama, Tagawa and Toda 1981: an edge over several layers gets a place in each of them, and places are
    ordered by the mean of their neighbours' (the barycentre), up and down in turn.
    """
    reduced = nx.transitive_reduction(graph)
    layers = [sorted(layer) for layer in nx.topological_generations(reduced.reverse())][::-1]
    depth = {rule: number for number, layer in enumerate(layers) for rule in layer}
    ways = []
    for a, b in sorted(reduced.edges):
        bends = {number: (a, b, number) for number in range(depth[a] + 1, depth[b])}
        for number, bend in bends.items():
            layers[number].append(bend)
        ways.append([a, *bends.values(), b])
    places = _ordered(layers, ways)

    middle = {place: sum(sides) / 2 for place, sides in places.items()}
    tops = {place: number * LAYER for number, layer in enumerate(layers) for place in layer}
    edges = []
    for way in ways:
        points = [(middle[way[0]], tops[way[0]] + HEIGHT)]
        for bend in way[1:-1]:
            points += [(middle[bend], tops[bend]), (middle[bend], tops[bend] + HEIGHT)]
        edges.append([*points, (middle[way[-1]], tops[way[-1]])])
    boxes = {rule: (places[rule][0], tops[rule]) for rule in graph}
    return Drawing(boxes, edges, max(right for _, right in places.values()), (len(layers) - 1) * LAYER + HEIGHT)


def _ordered(layers: list[list], ways: list[list]) -> dict:
    """Left and right of every place, each layer in the order that its neighbours' middles suggest, centred."""
    beside = nx.Graph(pair for way in ways for pair in pairwise(way))
    beside.add_nodes_from(place for layer in layers for place in layer)
    places = _spread(layers)
    for _ in range(SWEEPS):
        for direction in (1, -1):
            for before, layer in pairwise(layers[::direction]):
                middles = {place: sum(places[place]) / 2 for place in [*before, *layer]}
                seen = {place: [middles[other] for other in beside[place] if other in before] for place in layer}
                layer.sort(key=lambda place: mean(seen[place] or [middles[place]]))
                places = _spread(layers)
    return places


def _spread(layers: list[list]) -> dict:
    """Left and right of every place, each layer in its order, centred; a bend is narrow."""
    sizes = [[WIDTH if isinstance(place, str) else GAP for place in layer] for layer in layers]
    totals = [sum(size) + GAP * (len(size) - 1) for size in sizes]
    places = {}
    for layer, size, total in zip(layers, sizes, totals, strict=True):
        left = (max(totals) - total) / 2
        for place, wide in zip(layer, size, strict=True):
            places[place] = (left, left + wide)
            left += wide + GAP
    return places
