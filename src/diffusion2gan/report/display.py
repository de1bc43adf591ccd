"""Tables as people read them: in the terminal, in Markdown and in the report."""

import pandas as pd


def for_terminal(frame: pd.DataFrame) -> str:
    """A table as text: measured numbers, the paper's in brackets, a dash for neither."""
    shown = pd.DataFrame({"": frame["label"], "scale": frame["scale"].fillna("—")})
    for name in metrics_of(frame):
        both = zip(frame[name], frame[f"{name}_paper"], strict=True)
        shown[name] = [" ".join(filter(None, [_digits(ours), _digits(theirs, "({})")])) or "—" for ours, theirs in both]
    return shown.to_string(index=False) + "\nin brackets: reported by the paper"


def for_readers(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as text cells: measured numbers with their intervals, the paper's in columns of their own.

    A dash means neither. Empty columns are left out.
    """
    shown = pd.DataFrame({"": frame["label"]})
    for name in metrics_of(frame):
        widths = frame.get(f"{name}_interval", pd.Series([None] * len(frame)))
        measured = zip(frame[name], widths, strict=True)
        columns = {
            name.replace("_", " "): [
                " ".join(filter(None, [_digits(value), _width(value, width)])) for value, width in measured
            ],
            f"{name.replace('_', ' ')}, paper": [_digits(value) for value in frame[f"{name}_paper"]],
        }
        for title, cells in columns.items():
            if any(cells):
                shown[title] = [cell or "—" for cell in cells]
    return shown


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """The metrics among the columns of a table."""
    return [name for name in frame if f"{name}_paper" in frame]


def protocol(frame: pd.DataFrame, records: list[dict]) -> list[str]:
    """How the numbers of a table were measured, one fact per line. Empty settings are left out."""
    lines = []
    for name in ("scale", "benchmark", "seeds"):
        if values := sorted(set(frame[name].dropna().astype(str))):
            lines.append(f"{name}: {', '.join(values)}")
    recipe = {key: value for record in records for key, value in record.get("recipe", {}).items()}
    lines += [f"{key.replace('_', ' ')}: {value}" for key, value in recipe.items() if value != ""]
    for key in ("device", "git_commit"):
        if values := sorted({record[key] for record in records if key in record}):
            lines.append(f"{key.replace('_', ' ')}: {', '.join(values)}")
    notes = sorted({record["conversion"] for record in records if "conversion" in record})
    return lines + notes


def _width(value: float, width: float | None) -> str:
    if pd.isna(value) or width is None or pd.isna(width):
        return ""
    return f"± {width:.0f}" if width >= 100 else f"± {width:.2g}"


def _digits(value: float | str | None, form: str = "{}") -> str:
    if pd.isna(value):
        return ""
    return form.format(value if isinstance(value, str) else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}")
