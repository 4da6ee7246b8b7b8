"""The bytes of a string column and of its slices."""

import numpy as np
import pyarrow as pa
import pytest

from laion_assets.stages.dedup_parquet.rows.column_bytes import ColumnBytes


@pytest.mark.parametrize("start", [0, 1, 3])
def test_rows_with_a_byte_are_found_in_any_slice(start: int) -> None:
    texts = ["x1", "", "abc", "1", "", "é1", "a"]
    found = ColumnBytes.of(pa.array(texts).slice(start))
    assert bytes(found.content) == "".join(texts[start:]).encode()
    assert found.lengths.tolist() == [len(text.encode()) for text in texts[start:]]
    assert found.rows(found.content == ord("1")).tolist() == ["1" in text for text in texts[start:]]


@pytest.mark.parametrize("column", [pa.array([], pa.string()), pa.array(["", ""]), pa.nulls(2, pa.string())])
def test_columns_without_bytes_have_none(column: pa.Array) -> None:
    found = ColumnBytes.of(column)
    assert found.lengths.tolist() == [0] * len(column)
    assert found.rows(np.empty(0, bool)).tolist() == [False] * len(column)
