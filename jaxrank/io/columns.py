"""Tables by column, written with pyarrow: parquet a part at a time, and CSV of many rows."""

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
    """Yields a writer of tables of this schema; the file is there when the block has ended.

    Args:
      keys: the columns by which a reader may skip parts of the file.
    """
    import pyarrow.parquet  # a tenth of a second, for which no other command should wait

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
    """A column of text that is often the same, each text once."""
    import pyarrow

    return pyarrow.array(texts.astype(object), pyarrow.string()).dictionary_encode()


def write_csv(path: Path, table: "pyarrow.Table") -> None:
    """A table as CSV, many times faster than `tables.write_csv`: text is quoted, no text starts a
    spreadsheet formula, numbers have all digits that they need, and a null is an empty cell."""
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
        return column.cast(pyarrow.float64())  # else fewer digits than tell two of them apart
    return column


def _safe_texts(texts: "pyarrow.Array") -> "pyarrow.Array":
    """See `tables.safe_text`."""
    import pyarrow.compute

    starts = "".join(re.escape(start) for start in FORMULA_STARTS)
    risky = pyarrow.compute.match_substring_regex(texts, f"^[{starts}]")
    quoted = pyarrow.compute.binary_join_element_wise("'", texts, "")
    return pyarrow.compute.if_else(risky, quoted, texts)
