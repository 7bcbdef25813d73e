"""Tables by column: CSV and parquet written with pyarrow."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrank.io import columns


def test_csv_has_every_digit_and_starts_no_formula(tmp_path: Path) -> None:
    names = ["=1+1.jpg", "\t-b", 'c "d",\n.jpg', "\u00e9", "=1+1.jpg"]
    single = np.array([0.1, 1 / 3, -0.0, 1e-7, 1e20], np.float32)
    double = np.array([0.1, 1 / 3, 1e-300, 2.0, -5e22])
    table = pa.table(
        {
            "name": columns.text_column(pd.Series(names)),
            "single": single,
            "double": double,
            "null": pa.array([1.0, 0.5, 0.0, 1.0, 1.0], mask=np.arange(5) % 2 == 1),
        }
    )
    columns.write_csv(tmp_path / "t.csv", table)
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "single", "double", "null"]
    assert [row[0] for row in rows] == ["'=1+1.jpg", "'\t-b", *names[2:4], "'=1+1.jpg"]
    np.testing.assert_array_equal(np.array([row[1] for row in rows], np.float64), single)
    np.testing.assert_array_equal(np.array([row[2] for row in rows], np.float64), double)
    assert [row[3] for row in rows] == ["1", "", "0", "", "1"]


def test_texts_of_several_tables_stay_with_their_rows(tmp_path: Path) -> None:
    parts = [pa.table({"name": columns.text_column(pd.Series(n))}) for n in (["b", "a"], ["a"])]
    columns.write_csv(tmp_path / "t.csv", pa.concat_tables(parts))
    assert pd.read_csv(tmp_path / "t.csv")["name"].tolist() == ["b", "a", "a"]


def test_parquet_is_written_a_part_at_a_time_and_whole_or_not_at_all(tmp_path: Path) -> None:
    parts = [pa.table({"key": np.full(3, i), "value": np.arange(3.0)}) for i in range(2)]
    with columns.parquet_writer(tmp_path / "t.parquet", parts[0].schema, ["key"]) as writer:
        for part in parts:
            writer.write_table(part)
    assert pq.read_table(tmp_path / "t.parquet").equals(pa.concat_tables(parts))
    before = (tmp_path / "t.parquet").read_bytes()

    def broken() -> None:
        with columns.parquet_writer(tmp_path / "t.parquet", parts[0].schema, ["key"]) as writer:
            writer.write_table(parts[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
    assert (tmp_path / "t.parquet").read_bytes() == before
