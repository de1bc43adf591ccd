"""Prompts for the pairs: LAION-aesthetics or other parquet files of captions, a text file, or a registered source."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from diffusion2gan.data.sources import find_source, source_names
from diffusion2gan.errors import UserError, nearest
from diffusion2gan.io import data_files
from diffusion2gan.pairs.parquet import is_text, opened, read_columns
from diffusion2gan.settings import PromptFilter

# column names of captions and aesthetic scores, in LAION's files and others
CAPTIONS = ("caption", "TEXT", "text")
SCORES = ("AESTHETIC_SCORE", "aesthetic", "aesthetic_score", "score")
ANY = PromptFilter()


def choose_prompts(source: str, count: int, seed: int, wanted: PromptFilter = ANY) -> pd.DataFrame:
    """Choose the captions of `count` pairs from a source, in a seeded order: columns `prompt_id`, `caption`.

    `source` is a text file with one caption per line, a parquet file, a folder of parquet files, or the name of a
    registered source. `unconditional` gives one empty caption, for a teacher without text.
    Captions that the source repeats are chosen once. If fewer remain than pairs, all are chosen and the pairs share
    them; `attrs` of the result then counts both: {"pairs": count, "distinct": captions}.
    Raises UserError if the source does not exist or cannot be read, or if it has no column of captions or scores, or no
    caption that passes the filter.
    """
    if source == "unconditional":
        return pd.DataFrame({"prompt_id": [0], "caption": [""]})
    captions = pd.Series(_captions(source, wanted), dtype=str).str.strip()
    captions = captions[captions.str.len().between(max(1, wanted.shortest), wanted.longest)]
    captions = captions.drop_duplicates()  # ours: no caption is reused before all have been used
    if captions.empty:
        raise UserError(f"{source} holds no caption that can be used")
    chosen = captions.sample(min(count, len(captions)), random_state=seed)
    prompts = pd.DataFrame({"prompt_id": range(len(chosen)), "caption": chosen.to_list()})
    if len(prompts) < count:
        prompts.attrs = {"pairs": count, "distinct": len(prompts)}
    return prompts


def look_into(source: str, wanted: PromptFilter = ANY) -> tuple[int, list[str]]:
    """The number of captions in a text file or in parquet files before they are filtered, and some of them.

    The first group of rows of the first, a middle and the last parquet file is read; of the others, the number of rows.
    Raises UserError if they cannot be read.
    """
    if Path(source).suffix.lower() == ".txt":
        captions = [line.strip() for line in _captions(source, wanted) if line.strip()]
        return len(captions), captions[:1]
    files = _parquet_files(Path(source))
    places = sorted({0, len(files) // 2, len(files) - 1})
    shown = [caption for place in places for caption in _captions_of(files[place], wanted, 1)[:1].to_pylist()]
    rows = 0
    for file in files:
        with opened(file) as parquet:
            rows += parquet.metadata.num_rows
    return rows, shown


def _captions(source: str, wanted: PromptFilter) -> list[str] | pd.Series:
    if registered := find_source(source):
        return registered.prompts()
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"there are no prompts at {source}: set `prompts` to {source_names()}, a .txt or a .parquet file"
        )
    if path.suffix.lower() == ".txt":
        return _lines_of(path)
    chunks = [chunk for file in _parquet_files(path) for chunk in _captions_of(file, wanted).chunks]
    return pa.chunked_array(chunks, pa.large_string()).to_pandas()


def _lines_of(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not UTF-8 text ({error}): save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without its mark
        raise UserError(f"{file} is not UTF-8 text (it holds the character 0): save it as UTF-8")
    return text.split("\n")  # splitlines would also cut at U+2028 in a caption


def _parquet_files(path: Path) -> list[Path]:
    files = data_files(path, {".parquet"}) if path.is_dir() else [path]
    if not files:
        raise UserError(f"there are no parquet files in {path}: set `prompts` to a folder of parquet files")
    return files


def _captions_of(file: Path, wanted: PromptFilter, groups: int | None = None) -> pa.ChunkedArray:
    """The captions of a parquet file whose score is high enough; with `groups`, of its first groups of rows.

    The types of the columns may differ between files.
    """
    with opened(file) as parquet:
        names, scored = parquet.schema_arrow.names, wanted.min_score is not None or wanted.score_column is not None
        column = _column(file, names, "caption", wanted.caption_column, CAPTIONS)
        score = _column(file, names, "score", wanted.score_column, SCORES) if scored else None
        taken = range(min(parquet.num_row_groups, groups or parquet.num_row_groups))
        table = parquet.read_row_groups(taken, [column, score] if scored else [column])
        if not is_text(table[column].type):
            raise UserError(f"{file}: the column '{column}' holds {table[column].type}, not text: set `caption_column`")
        good = table[column].is_valid()
        if scored:
            good = pc.and_(good, pc.greater_equal(_numbers(file, score, table[score]), wanted.min_score or 0.0))
        captions = table[column].cast(pa.large_string()).filter(good)
        captions.validate(full=True)  # UTF-8
        return captions


def _numbers(file: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.float64())
    except pa.ArrowException as error:
        raise UserError(
            f"{file}: the column '{name}' holds {column.type}, not numbers ({error}): set `score_column`"
        ) from error


def _column(source: Path, columns: list[str], meant: str, named: str | None, known: tuple[str, ...]) -> str:
    """The given column, or the first of the known ones."""
    if named is not None and named not in columns:
        raise UserError(f"{source} has no column '{named}', {nearest(named, columns)}")
    found = named or next((name for name in known if name in columns), None)
    if found is None:
        raise UserError(
            f"{source} has the columns {', '.join(columns)}: none is named {' or '.join(known)}, set `{meant}_column`"
        )
    return found


def read_captions(path: Path) -> list[str]:
    """The captions of any parquet file with a column `caption`, such as a benchmark's.

    Raises UserError if it cannot be read, or a caption is no text.
    """
    table = read_columns(path, {"caption": str}, "give a file of prompts such as a benchmark's prompts.parquet")
    return table["caption"].to_pylist()


def read_prompts(path: Path) -> pa.LargeStringArray:
    """Read the captions of `prompts.parquet`, indexed by prompt id.

    They stay an Arrow array: twelve million captions take 1 GB, as Python strings 10 GB. The array has a single chunk,
    because `take` on several chunks copies all captions; `large_string` allows a chunk of more than 2 GB.
    Raises UserError if the file is missing, empty, or not a list of prompts.
    """
    table = read_columns(path, {"prompt_id": int, "caption": str}, "make it with prepare_prompts.py")
    if not np.array_equal(table["prompt_id"].to_numpy(), np.arange(table.num_rows)):
        raise UserError(f"the prompt ids in {path} are not 0, 1, 2, …: make it with prepare_prompts.py")
    return table["caption"].combine_chunks()
