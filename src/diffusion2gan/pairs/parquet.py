"""Parquet files of people and of earlier jobs: read, or refused in one line that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from diffusion2gan.errors import UserError


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A parquet file, open. Raises UserError that names it if it is missing or damaged, also in the block."""
    try:
        with pq.ParquetFile(path) as parquet:
            yield parquet
    except UserError:
        raise
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:  # KeyError: two columns of one name
        raise UserError(f"{path} cannot be read as parquet ({str(error).partition(chr(10))[0]})") from error


def read_columns(path: Path, kinds: dict[str, type], hint: str) -> pa.Table:
    """The columns of a parquet file, in the order of `kinds`: each holds int or str, and a value in every row.

    Raises UserError that ends in the `hint` if the file has no rows, or a column is missing or holds something else.
    """
    try:
        with opened(path) as parquet:
            table = parquet.read(list(kinds))
            fits = {int: pa.types.is_integer, str: is_text}
            for name, kind in kinds.items():
                if not table.num_rows or name not in table.column_names:
                    raise UserError(f"{path} has no rows with a column '{name}'")
                if not fits[kind](table[name].type) or table[name].null_count:
                    raise UserError(f"{path}: the column '{name}' does not hold {kind.__name__} in every row")
            types = {int: pa.int64(), str: pa.large_string()}
            table = table.select(list(kinds)).cast(pa.schema({name: types[kind] for name, kind in kinds.items()}))
            table.validate(full=True)  # UTF-8
    except UserError as error:
        raise UserError(f"{error}: {hint}") from error
    return table


def is_text(kind: pa.DataType) -> bool:
    """Whether a column can hold captions: text, bytes of text that are not marked as text, or nothing but nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.null()
    return kind in types
