"""The whole study as one page: what is claimed, what was measured, with what, and what it took.

The page loads nothing and holds no number of its own: each is from the tables, the claims, the metrics files behind
them, or what Snakemake recorded of its jobs. What is not there is said not to be.
"""

import base64
from collections import Counter
from pathlib import Path

import networkx as nx
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from diffusion2gan.data import sources
from diffusion2gan.errors import UserError
from diffusion2gan.report import evidence, linked, workflow
from diffusion2gan.study.study import Study

TEMPLATE = Path(__file__).with_name("report.html.jinja")
PIXELS_A_PIXEL = 2 / 3  # of the page and of a figure, which has more for screens of high density


def render(
    study: Study,
    measured: dict[str, tuple[pd.DataFrame, list[dict]]],
    claims: pd.DataFrame | None,
    figures: dict[str, Path],
    captions: dict,
    graph: nx.DiGraph,
    spent: pd.DataFrame,
) -> str:
    """The page as HTML.

    `measured` has the tables with the metrics records behind them, `claims` is results/claims.csv as text, `captions`
    is captions.yaml, `graph` and `spent` are of `report.workflow`. Raises UserError for a number with no file
    behind it, or for a figure without a caption.
    """
    entries = evidence.entries([record for _, records in measured.values() for record in records], study)
    anchors = evidence.anchors(entries)
    shown = [
        linked.table(study, name, measured.get(name), captions["tables"].get(name, name), anchors)
        for name in study.tables
    ]
    judged = [] if claims is None else linked.claims(claims, study, {*study.tables, *captions["figures"]}, anchors)
    return _template().render(
        study=study,
        facts=facts(entries),
        stand_ins=stand_ins(study),
        claims=judged,
        verdicts=Counter(claim.verdict for claim in judged),
        tables=shown,
        columns={name: captions["columns"].get(name) for name in _metrics(measured)},
        figures=[_figure(name, captions["figures"], figures.get(name)) for name in {**captions["figures"], **figures}],
        entries=entries,
        used={entry.anchor: [table.name for table in shown if table.leads_to(entry.anchor)] for entry in entries},
        trained=evidence.trained(entries),
        drawing=workflow.draw(graph),
        graph=graph,
        spent=spent,
        box=(workflow.WIDTH, workflow.HEIGHT),
        attribution=sources.attribution(),
    )


def facts(entries: list[evidence.Entry]) -> dict[str, list[str]]:
    """What the head of the page says of all measurements together, from their files."""
    records = [record for entry in entries for record in entry.records]
    times = sorted(record["utc"] for record in records if "utc" in record)
    versions = {f"{name} {number}" for record in records for name, number in record.get("versions", {}).items()}
    return {
        "commit": _values(records, "git_commit"),
        "measured": [" to ".join(f"{time[:10]} {time[11:16]} UTC" for time in (times[0], times[-1]))] if times else [],
        "device": _values(records, "device"),
        "seeds": _values(records, "seed"),
        "software": sorted(versions - {each for each in versions if each.endswith("not installed")}),
    }


def stand_ins(study: Study) -> list[str]:
    """What stands in for the paper's at this scale, in sentences; at the paper's scale nothing does."""
    evaluation, sentences = study.config["evaluation"], []
    for name in study.config["stand_ins"]:
        sentences.append(f"{linked.stand_in(study, name)}.")
    for teacher in study.teachers.values():
        if teacher.training:
            sentences.append(f"The teacher {teacher.name} is a miniature that the workflow trains itself.")
        elif teacher.path and teacher.path.startswith("assets/"):
            sentences.append(f"The teacher {teacher.name} is a small network of this project.")
    judged = sources.find_source(study.config["latentlpips"]["judgements"])
    if judged and judged.synthetic_judgements:
        sentences.append(
            "The judgements that calibrate the perceptual metric are synthetic: scenes distorted with known severity, "
            "no person's opinion."
        )
    if evaluation["features"] != "inception":
        sentences.append(f"FID, KID, precision and recall are in features of {evaluation['features']}, not Inception.")
    if evaluation["clip"].startswith("local-dir:"):
        sentences.append("The CLIP of the CLIP score is a small one of this project.")
    if evaluation["dreamsim"].startswith("local-dir:"):
        sentences.append("The distances named DreamSim and DreamDiv are those of that small CLIP, not DreamSim's.")
    return sentences


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _figure(name: str, captions: dict, path: Path | None) -> dict:
    if name not in captions:
        raise UserError(f"captions.yaml has no caption for the figure '{name}': write its title and what it says")
    shown = {"name": name, **captions[name], "data": None}
    if path is not None:
        with Image.open(path) as png:
            width, height = (round(side * PIXELS_A_PIXEL) for side in png.size)
            shown |= {"alt": png.info.get("Description", captions[name]["title"]), "width": width, "height": height}
            shown["credit"] = png.info.get("Copyright", "")
        shown["data"] = base64.b64encode(path.read_bytes()).decode()
    return shown


def _metrics(measured: dict) -> list[str]:
    return list(dict.fromkeys(name for frame, _ in measured.values() for name in frame if f"{name}_paper" in frame))


def _values(records: list[dict], name: str) -> list[str]:
    return sorted({str(record[name]) for record in records if name in record})


def _value(value: object) -> str:
    """A value of a metrics file as text."""
    if value is None or isinstance(value, bool):
        return {None: "—", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _way(points: list[tuple[float, float]]) -> str:
    """An edge as the path of an SVG: curves that leave and reach every corner vertically."""
    (x, y), *rest = points
    path = f"M{x:g} {y:g}"
    for to_x, to_y in rest:
        middle = (y + to_y) / 2
        path += f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
        x, y = to_x, to_y
    return path


def _template():
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "value": _value, "way": _way}
    return environment.get_template(TEMPLATE.name)
