"""Prompts of the pairs: OpenMoji captions, a text file, or a parquet of captions (LAION-aesthetics)."""

from pathlib import Path

import pandas as pd

from diffusion2gan.datasets import openmoji
from diffusion2gan.errors import UserError


def prompts(source: str, count: int, seed: int) -> pd.DataFrame:
    """At most `count` distinct captions of a source in a seeded order: columns `prompt_id`, `caption`.

    `source` is `openmoji`, a text file with one caption a line, or a parquet file (or folder of them)
    with a column `caption` or, as LAION has it, `TEXT`. Raises UserError when it holds no caption.
    """
    captions = pd.Series(_read(source), dtype=str).str.strip()
    captions = captions[captions.str.len() > 0].drop_duplicates()
    if captions.empty:
        raise UserError(f"{source} holds no caption")
    shuffled = captions.sample(min(count, len(captions)), random_state=seed)
    return pd.DataFrame({"prompt_id": range(len(shuffled)), "caption": shuffled.to_list()})


def _read(source: str) -> list[str]:
    if source == "openmoji":
        return [prompt.caption for prompt in openmoji.prompts("pairs")]
    path = Path(source)
    if not path.exists():
        raise UserError(f"there are no prompts at {source}: set `prompts` to 'openmoji', a .txt or a .parquet file")
    if path.suffix == ".txt":
        return path.read_text(encoding="utf-8").splitlines()
    table = pd.read_parquet(path)
    column = next((name for name in ("caption", "TEXT") if name in table), None)
    if column is None:
        raise UserError(f"{source} has the columns {', '.join(table)}: one must be named 'caption' or 'TEXT'")
    return table[column].dropna().to_list()
