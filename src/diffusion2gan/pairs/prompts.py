"""Prompts for the pairs: LAION-aesthetics or other parquet files of captions, a text file, or a registered source."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diffusion2gan.data.sources import find_source, source_names
from diffusion2gan.errors import UserError, nearest
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
    if Path(source).suffix == ".txt":
        captions = [line.strip() for line in _captions(source, wanted) if line.strip()]
        return len(captions), captions[:1]
    files = _parquet_files(source)
    places = sorted({0, len(files) // 2, len(files) - 1})
    shown = [caption for place in places for caption in _captions_of(files[place], wanted, 1)[:1].to_pylist()]
    return sum(_rows(file) for file in files), shown


def _captions(source: str, wanted: PromptFilter) -> list[str] | pd.Series:
    if registered := find_source(source):
        return registered.prompts()
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"there are no prompts at {source}: set `prompts` to {source_names()}, a .txt or a .parquet file"
        )
    if path.suffix == ".txt":
        try:
            return path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would also cut at U+2028 in a caption
        except UnicodeDecodeError as error:
            raise UserError(f"{source} is not UTF-8 text ({error}): save it as UTF-8") from error
    chunks = [chunk for file in _parquet_files(source) for chunk in _captions_of(file, wanted).chunks]
    return pa.chunked_array(chunks, pa.large_string()).to_pandas()


def _parquet_files(source: str) -> list[Path]:
    path = Path(source)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"there are no parquet files in {source}: set `prompts` to a folder of parquet files")
    return files


def _rows(file: Path) -> int:
    try:
        return pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read as parquet ({str(error).splitlines()[0]})") from error


def _captions_of(file: Path, wanted: PromptFilter, groups: int | None = None) -> pa.ChunkedArray:
    """The captions of a parquet file whose score is high enough; with `groups`, of its first groups of rows.

    The types of the columns may differ between files.
    """
    try:
        with pq.ParquetFile(file) as parquet:
            names, scored = parquet.schema_arrow.names, wanted.min_score is not None or wanted.score_column is not None
            column = _column(file, names, "caption", wanted.caption_column, CAPTIONS)
            score = _column(file, names, "score", wanted.score_column, SCORES) if scored else None
            taken = range(min(parquet.num_row_groups, groups or parquet.num_row_groups))
            table = parquet.read_row_groups(taken, [column, score] if scored else [column])
        if not _is_text(table[column].type):
            raise UserError(f"{file}: the column '{column}' holds {table[column].type}, not text: set `caption_column`")
        good = table[column].is_valid()
        if scored:
            good = pc.and_(good, pc.greater_equal(table[score].cast(pa.float64()), wanted.min_score or 0.0))
        captions = table[column].cast(pa.large_string()).filter(good)
        captions.validate(full=True)  # UTF-8
    except (OSError, KeyError, pa.ArrowException) as error:  # KeyError: two columns of one name
        raise UserError(f"{file} cannot be read as parquet ({str(error).splitlines()[0]})") from error
    return captions


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column can hold captions: text, bytes of text that are not marked as text, or nothing but nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.null()
    return kind in types


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


def read_prompts(path: Path) -> pa.LargeStringArray:
    """Read the captions of `prompts.parquet`, indexed by prompt id.

    They stay an Arrow array: twelve million captions take 1 GB, as Python strings 10 GB. The array has a single chunk,
    because `take` on several chunks copies all captions; `large_string` allows a chunk of more than 2 GB.
    Raises UserError if the file is missing, empty, or not a list of prompts.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is not a list of prompts ({error}): make it with prepare_prompts.py") from error
    if table.column_names != ["prompt_id", "caption"] or not table.num_rows:
        found = f"the columns {', '.join(table.column_names)}" if table.num_rows else "no prompts"
        raise UserError(f"{path} has {found}, not prompt_id and caption: make it with prepare_prompts.py")
    if not np.array_equal(table["prompt_id"].to_numpy(), np.arange(table.num_rows)):
        raise UserError(f"the prompt ids in {path} are not 0, 1, 2, …: make it with prepare_prompts.py")
    return table["caption"].cast(pa.large_string()).combine_chunks()
