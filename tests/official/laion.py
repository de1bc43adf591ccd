"""LAION-Aesthetics as Parquet files of the hub, with all columns; captions may be repeated or missing."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def write(folder: Path, rows: Sequence[tuple[str | None, float]], files: int = 2) -> Path:
    """A folder of files with these captions and aesthetic scores; captions may repeat or be missing."""
    folder.mkdir(parents=True)
    table = pd.DataFrame(
        {
            "URL": [f"https://example.org/{number}.jpg" for number in range(len(rows))],
            "TEXT": [caption for caption, _ in rows],
            "WIDTH": 512.0,
            "HEIGHT": 512.0,
            "similarity": 0.3,
            "punsafe": 0.01,
            "pwatermark": 0.1,
            "AESTHETIC_SCORE": [score for _, score in rows],
            "hash": range(len(rows)),
            "__index_level_0__": range(len(rows)),
        }
    )
    for number in range(files):
        part = table.iloc[number::files]
        part.to_parquet(folder / f"train-{number:05d}-of-{files:05d}-0123456789abcdef.parquet", index=False)
    return folder
