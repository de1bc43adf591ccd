"""The estimated cost of a study as a Markdown page."""

import math

import pandas as pd

from diffusion2gan.report.rendering import render
from diffusion2gan.study.cost import FLOAT32, USABLE, pair_bytes
from diffusion2gan.study.study import Study


def markdown(study: Study, table: pd.DataFrame, targets: list[str], free: float) -> str:
    """The table of `cost.plan` as a page. `free` is the number of free bytes on the disk of the work folder."""
    filters = {
        "size": size,
        "hours": hours,
        "gib": gib,
        "number": "{:,.0f}".format,
        "enumerate": enumerated,
    }
    weights = max((teacher.weights.unet for teacher in study.teachers.values() if teacher.path), default=0)
    return render(
        "plan.md",
        filters,
        study=study,
        targets=targets,
        table=table,
        unknown=sorted(set(table.loc[table["gpu_hours"].isna(), "rule"])),
        free=free / 1e9,
        usable=USABLE * study.config.gpu_memory,
        gpu_jobs=table[table["gpu_gib"].notna()].to_dict("records"),
        rules=[_of_rule(rule, rows) for rule, rows in table.groupby("rule", sort=False)],
        needed=set(table.loc[table["rule"] == "generate_pairs", "subject"]),
        pairs={name: data.made * pair_bytes(study, name) / 1e9 for name, data in study.datasets.items()},
        checkpoint=4 * FLOAT32 * weights / 1e9,
    )


def _of_rule(rule: str, rows: pd.DataFrame) -> dict:
    """One line of the table of rules."""
    return {
        "rule": rule,
        "jobs": rows["jobs"].sum(),
        "gpu_hours": rows["gpu_hours"].sum(min_count=1),
        "hours": rows["hours"].sum(min_count=1) / rows["jobs"].sum(),
        "gib": rows["gpu_gib"].max(),
        "disk": rows["disk_gb"].sum(),
        "files": rows["files"].sum(),
        "basis": "; ".join(dict.fromkeys(rows["basis"])),
    }


def hours(value: float) -> str:
    """Hours with two digits; empty if they are unknown."""
    return "" if math.isnan(value) else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def gib(value: float) -> str:
    """GiB, rounded; empty if they are unknown."""
    return "" if math.isnan(value) else f"{value:.0f}" if value >= 9.5 else f"{value:.1f}"


def size(gigabytes: float) -> str:
    """Gigabytes or terabytes, rounded; a dash below 0.5 MB."""
    if gigabytes >= 999.5:
        return f"{gigabytes / 1000:.2f} TB"
    return f"{gigabytes:.0f} GB" if gigabytes >= 9.5 else f"{gigabytes:.1g} GB" if gigabytes > 0.0005 else "–"


def enumerated(names: list[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
