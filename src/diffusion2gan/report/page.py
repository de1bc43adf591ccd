"""The whole study as one HTML page: claims, tables, figures, the records behind each number, and the cost.

The page is self-contained. It computes no numbers: they come from the tables, the claims, the metrics files behind
them, or Snakemake's timings. The page says what is missing.
"""

import base64
from collections import Counter
from pathlib import Path

import networkx as nx
import pandas as pd
from PIL import Image

from diffusion2gan.data import sources
from diffusion2gan.errors import UserError
from diffusion2gan.report import cells, display, records, workflow
from diffusion2gan.report.rendering import render
from diffusion2gan.report.tables import MOST_SEEDS
from diffusion2gan.study.study import Study

PAGE_SCALE = 2 / 3  # CSS pixels per pixel of a figure, which is rendered for dense screens


def render_report(
    study: Study,
    measured: dict[str, tuple[pd.DataFrame, list[dict]]],
    claims: pd.DataFrame | None,
    stated: dict[str, dict],
    figures: dict[str, Path],
    captions: dict,
    graph: nx.DiGraph,
    timings: pd.DataFrame,
) -> str:
    """The page as HTML.

    `measured` has the tables with the metrics records behind them. `claims` is results/claims.csv as text, `stated`
    claims.yaml, `captions` captions.yaml. `graph` and `timings` come from `report.workflow`. Raises UserError if a
    number has no record or a figure has no caption.
    """
    entries = records.entries([record for _, found in measured.values() for record in found], study)
    anchors = records.anchors(entries)
    tables = [
        cells.table_cells(study, name, measured.get(name), captions["tables"].get(name, name), anchors)
        for name in study.tables
    ]
    places = {*study.tables, *captions["figures"]}
    comparisons = [comparison for claim in stated.values() for comparison in claim["comparisons"]]
    judged = [] if claims is None else cells.claim_cells(claims, comparisons, study, places, anchors)
    metrics = dict.fromkeys(metric for frame, _ in measured.values() for metric in display.metrics_of(frame))
    return render(
        "report.html",
        study=study,
        facts=facts(entries),
        stand_ins=stand_ins(study),
        claims=judged,
        verdicts=Counter(claim.verdict for claim in judged),
        most_seeds=MOST_SEEDS,
        tables=tables,
        columns={name: captions["columns"].get(name) for name in metrics},
        figures=[_figure(name, captions["figures"], figures.get(name)) for name in {**captions["figures"], **figures}],
        entries=entries,
        used={entry.anchor: [table.name for table in tables if table.links_to(entry.anchor)] for entry in entries},
        trained=records.trained(entries),
        rules=workflow.rule_table(graph, timings),
        spent=timings,
        attribution=sources.attribution(),
    )


def facts(entries: list[records.Entry]) -> dict[str, list[str]]:
    """Facts about all measurements together for the head of the page, from their files."""
    found = [record for entry in entries for record in entry.records]
    times = sorted(record["utc"] for record in found if "utc" in record)
    versions = {f"{name} {number}" for record in found for name, number in record.get("versions", {}).items()}
    return {
        "commit": _values(found, "git_commit"),
        "measured": [" to ".join(f"{time[:10]} {time[11:16]} UTC" for time in (times[0], times[-1]))] if times else [],
        "device": _values(found, "device"),
        "seeds": _values(found, "seed"),
        "software": sorted(versions - {each for each in versions if each.endswith("not installed")}),
    }


def stand_ins(study: Study) -> list[str]:
    """What replaces the paper's data and networks at this scale, in sentences. The paper's scale replaces nothing."""
    evaluation, sentences = study.config.evaluation, []
    for name in study.config.stand_ins:
        sentences.append(f"{cells.stand_in(study, name)}.")
    for teacher in study.teachers.values():
        if teacher.training:
            sentences.append(f"The teacher {teacher.name} is a small model that the workflow trains itself.")
        elif teacher.path and teacher.path.startswith("assets/"):
            sentences.append(f"The teacher {teacher.name} is a small network of this project.")
    judged = sources.find_source(study.config.latentlpips.judgements)
    if judged and judged.synthetic_judgements:
        sentences.append(
            "The judgements that calibrate the perceptual metric are synthetic: scenes with distortions of known "
            "strength, not people's opinions."
        )
    if evaluation.features != "inception":
        sentences.append(f"FID, KID, precision and recall use features of {evaluation.features}, not Inception.")
    if evaluation.clip.startswith("local-dir:"):
        sentences.append("The CLIP score uses a small CLIP of this project.")
    if evaluation.dreamsim.startswith("local-dir:"):
        sentences.append("The distances called DreamSim and DreamDiv also use that small CLIP, not DreamSim.")
    return sentences


def _figure(name: str, captions: dict, path: Path | None) -> dict:
    if name not in captions:
        raise UserError(f"captions.yaml has no caption for the figure '{name}': write its title and what it says")
    shown = {"name": name, **captions[name], "data": None}
    if path is not None:
        with Image.open(path) as png:
            width, height = (round(side * PAGE_SCALE) for side in png.size)
            shown |= {"alt": png.info.get("Description", captions[name]["title"]), "width": width, "height": height}
            shown["credit"] = png.info.get("Copyright", "")
        shown["data"] = base64.b64encode(path.read_bytes()).decode()
    return shown


def _values(found: list[dict], name: str) -> list[str]:
    return sorted({str(record[name]) for record in found if name in record})
