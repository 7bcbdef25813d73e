"""Writes tables by column with pyarrow: parquet in parts, and CSV of many rows."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from jaxrank.io import atomic
from jaxrank.io.tables import FORMULA_STARTS, safe_text

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet


@contextmanager
def parquet_writer(
    path: Path, schema: "pyarrow.Schema", keys: Sequence[str]
) -> Iterator["pyarrow.parquet.ParquetWriter"]:
    """Yields a writer of tables with a schema; the file appears when the block ends.

    Args:
      path: path of the parquet file.
      schema: schema of the tables.
      keys: columns by which a reader may skip parts of the file.
    """
    import pyarrow.parquet  # takes 0.1 s, for which no other command should wait

    # Numbers that hardly repeat are written twice as fast without a dictionary.
    text = [field.name for field in schema if pyarrow.types.is_dictionary(field.type)]
    with (
        atomic.atomic_file(path, "wb") as file,
        pyarrow.parquet.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=[*text, *keys],
            write_statistics=list(keys),
        ) as writer,
    ):
        yield writer


def text_column(texts: pd.Series) -> "pyarrow.Array":
    """Encodes a column of repeated texts as a dictionary, which holds each text once."""
    import pyarrow

    return pyarrow.array(texts.astype(object), pyarrow.string()).dictionary_encode()


def write_csv(path: Path, table: "pyarrow.Table") -> None:
    """Writes a table as CSV, many times faster than `tables.write_csv`.

    Text is quoted and never starts a spreadsheet formula. Numbers have all digits that they need,
    and a null is an empty cell.
    """
    import pyarrow
    import pyarrow.csv

    columns = [_as_csv(column) for column in table.columns]
    header = ",".join(safe_text(name) for name in table.column_names)
    with atomic.atomic_file(path, "wb") as file:
        file.write(f"{header}\n".encode())
        pyarrow.csv.write_csv(
            pyarrow.table(columns, table.column_names),
            file,
            pyarrow.csv.WriteOptions(include_header=False),
        )


def _as_csv(column: "pyarrow.ChunkedArray") -> "pyarrow.ChunkedArray":
    import pyarrow

    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        combined = column.combine_chunks()
        if isinstance(combined, pyarrow.ChunkedArray):
            combined = combined.unify_dictionaries().combine_chunks()
        return _safe_texts(combined.dictionary).take(combined.indices)
    if pyarrow.types.is_floating(kind):
        return column.cast(pyarrow.float64())  # else too few digits to separate values
    return column


def _safe_texts(texts: "pyarrow.Array") -> "pyarrow.Array":
    """Applies `tables.safe_text` to an array of texts."""
    import pyarrow.compute

    starts = "".join(re.escape(start) for start in FORMULA_STARTS)
    risky = pyarrow.compute.match_substring_regex(texts, f"^[{starts}]")
    quoted = pyarrow.compute.binary_join_element_wise("'", texts, "")
    return pyarrow.compute.if_else(risky, quoted, texts)
