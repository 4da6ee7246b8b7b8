"""All types of parquet columns: values are read or rejected, unsuitable types are refused naming file and column."""

import decimal
import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.identity import Positions
from laion_assets.errors import SourceError
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.columns import MARK
from laion_assets.tables.row_reasons import Note
from laion_assets_tests.stages.dedup_parquet.tables import ONE

URLS = [f"https://a.test/{number}.jpg" for number in range(4)]
TEXTS = ["one", "zwei", "trois", "四"]


def stored(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def read(content: bytes) -> list[dict[str, Any]]:
    batches = read_parquet_rows(io.BytesIO(content), "p.parquet", DedupSettings(), Positions(ONE, [0]))
    rows = [row for batch in batches for row in batch.to_pylist() if row["kind"] != MARK]
    return sorted(rows, key=lambda row: row["source_row"])


def with_column(name: str, values: pa.Array) -> bytes:
    return stored(pa.table({"URL": URLS, "TEXT": TEXTS, name: values}))


def test_duplicate_column_name_is_refused_with_file_and_column() -> None:
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["a"]), pa.array(["y"])], ["URL", "TEXT", "URL"])
    with pytest.raises(SourceError, match=r"p\.parquet has several columns for URL: URL, URL"):
        read(stored(twice))
    other = pa.Table.from_arrays(
        [pa.array(["http://a.test/"]), pa.array(["a"]), *[pa.array([1])] * 2], ["URL", "TEXT", "h", "h"]
    )
    assert [row["TEXT"] for row in read(stored(other))] == ["a"]


@pytest.mark.parametrize("names", [["URL", "TEXT", "url", "caption"], ["url", "caption", "URL", "TEXT"]])
def test_exact_name_is_preferred_to_other_letter_case(names: list[str]) -> None:
    first = names.index("URL") < 2
    columns = [URLS, TEXTS, ["https://wrong.test/"] * 4, ["wrong"] * 4]
    columns = columns if first else columns[2:] + columns[:2]
    rows = read(stored(pa.Table.from_arrays([pa.array(column) for column in columns], names)))
    assert [(row["URL"], row["TEXT"]) for row in rows] == list(zip(URLS, TEXTS, strict=True))


def test_several_names_in_other_letter_case_are_refused() -> None:
    with pytest.raises(SourceError, match=r"columns for URL: url, Url\. Rename all but one"):
        read(stored(pa.table({"url": URLS, "Url": URLS, "TEXT": TEXTS})))


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"store_schema": False}, {"version": "1.0"}])
def test_all_string_types_are_read(kind: pa.DataType, options: dict[str, Any]) -> None:
    table = pa.table({"URL": pa.array(URLS).cast(kind), "TEXT": pa.array([*TEXTS[:3], None]).cast(kind)})
    assert [(row["URL"], row["TEXT"]) for row in read(stored(table, **options))] == [
        *zip(URLS[:3], TEXTS[:3], strict=True),
        (URLS[3], None),
    ]


@pytest.mark.parametrize("index", [pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64()])
def test_dictionaries_with_all_index_types_are_read(index: pa.DataType) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1], index), pa.array(["a", "b"]))
    table = pa.table({"URL": URLS, "TEXT": texts})
    assert [row["TEXT"] for row in read(stored(table))] == ["b", "a", None, "b"]


def test_fixed_size_bytes_are_read() -> None:
    urls = pa.array([url.encode() for url in URLS], pa.binary(len(URLS[0])))
    assert [row["URL"] for row in read(stored(pa.table({"URL": urls, "TEXT": TEXTS})))] == URLS


@pytest.mark.parametrize("is_dictionary", [False, True])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}])
def test_one_invalid_text_is_one_reject_also_in_a_dictionary(is_dictionary: bool, options: dict[str, Any]) -> None:
    texts = pa.array([b"fine", b"caf\xe9", b"fine", None]).view(pa.string())
    if is_dictionary:
        dictionary = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
        texts = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, None], pa.int32()), dictionary)
    rows = read(stored(pa.table({"URL": URLS, "TEXT": texts}), **options))
    assert [(row["source_row"], row["reason"]) for row in rows] == [
        (1, None),
        (2, "invalid_utf8"),
        (3, None),
        (4, None),
    ]
    assert rows[1]["raw"] == URLS[1].encode() + b"|caf\xe9"


@pytest.mark.parametrize(
    "values",
    [
        pa.array(np.array([0.25, -0.5, 0.3, 1], np.float16)),
        pa.array([0.25, -0.5, 0.3, 1], pa.float32()),
        pa.array([0.25, -0.5, 0.3, 1], pa.float64()),
        pa.array([decimal.Decimal(text) for text in ("0.25", "-0.50", "0.30", "1.00")]),
        pa.array([decimal.Decimal(text) for text in ("0.25", "-0.50", "0.30", "1.00")], pa.decimal256(50, 10)),
        pa.array(["0.25", "-0.5", "0.3", "1"]),
        pa.array(["0.25", "-0.5", "0.3", "1"]).dictionary_encode(),
    ],
)
def test_all_types_of_similarities_are_read(values: pa.Array) -> None:
    assert [row["similarity"] for row in read(with_column("similarity", values))] == [0.25, -0.5, 0.3, 1.0]


@pytest.mark.parametrize(
    "values",
    [
        *(
            pa.array([640, 1, 100, 20], kind)
            for kind in (pa.int16(), pa.uint16(), pa.int32(), pa.uint64(), pa.float32())
        ),
        pa.array(np.array([640, 1, 100, 20], np.float16)),
        pa.array([decimal.Decimal(number) for number in (640, 1, 100, 20)], pa.decimal128(10, 0)),
        pa.array([decimal.Decimal(number) for number in (640, 1, 100, 20)], pa.decimal128(10, 2)),
        pa.array(["640", "1", "100.0", "20"]),
    ],
)
def test_all_types_of_whole_numbers_are_read(values: pa.Array) -> None:
    assert [row["WIDTH"] for row in read(with_column("WIDTH", values))] == [640, 1, 100, 20]


def test_a_nan_among_double_ids_costs_no_other_id_and_inexact_ones_are_null_and_noted() -> None:
    large = 1_527_384_910_011
    rows = read(with_column("SAMPLE_ID", pa.array([float(large), math.nan, 2.0**53 - 1, 2.0**53])))
    assert [row["SAMPLE_ID"] for row in rows] == [large, None, 2**53 - 1, None]
    assert [bool(Note(row["notes"]) & Note.SAMPLE_ID_INVALID) for row in rows] == [False, True, False, True]
    rows = read(with_column("SAMPLE_ID", pa.array([7.0, 2.0**24 - 1, 2.0**24, math.inf], pa.float32())))
    assert [row["SAMPLE_ID"] for row in rows] == [7, 2**24 - 1, None, None]


def test_unsigned_ids_beyond_int64_are_null_and_noted() -> None:
    rows = read(with_column("SAMPLE_ID", pa.array([0, 2**63 - 1, 2**63, 2**64 - 1], pa.uint64())))
    assert [row["SAMPLE_ID"] for row in rows] == [0, 2**63 - 1, None, None]
    assert [bool(Note(row["notes"]) & Note.SAMPLE_ID_INVALID) for row in rows] == [False, False, True, True]


def test_columns_of_nulls_count_as_empty() -> None:
    rows = read(stored(pa.table({"URL": URLS, "TEXT": pa.nulls(4), "WIDTH": pa.nulls(4), "NSFW": pa.nulls(4)})))
    assert [(row["TEXT"], row["WIDTH"], row["NSFW"]) for row in rows] == [(None, None, None)] * 4


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("TEXT", pa.array([["a"]] * 4)),
        ("TEXT", pa.array([{"a": "b"}] * 4)),
        ("TEXT", pa.array([1, 2, 3, 4])),
        ("URL", pa.nulls(4)),
        ("WIDTH", pa.array([[1]] * 4)),
        ("WIDTH", pa.array([True] * 4)),
        ("WIDTH", pa.array([1, 2, 3, 4], pa.timestamp("us"))),
        ("similarity", pa.array([1, 2, 3, 4], pa.date32())),
        ("NSFW", pa.array([0.1] * 4)),
    ],
)
def test_unsuitable_types_are_refused_with_file_and_column(name: str, values: pa.Array) -> None:
    table = pa.table({"URL": URLS, "TEXT": TEXTS} | {name: values})
    with pytest.raises(SourceError, match=rf"p\.parquet: the type of column {name} is .*, expected a"):
        read(stored(table))


def test_nested_columns_next_to_wanted_ones_do_not_shift_them() -> None:
    table = pa.table(
        {"x": [{"a": 1, "b": [2, 3]}] * 4, "URL": URLS, "y": [["q"]] * 4, "TEXT": TEXTS, "WIDTH": [1, 2, 3, 4]}
    )
    assert [(row["URL"], row["TEXT"], row["WIDTH"]) for row in read(stored(table))] == list(
        zip(URLS, TEXTS, [1, 2, 3, 4], strict=True)
    )


@pytest.mark.parametrize("options", [{"row_group_size": 7}, {"data_page_version": "2.0"}, {"compression": "gzip"}])
@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "DICTIONARY"])
def test_row_groups_pages_and_encodings_make_no_difference(options: dict[str, Any], encoding: str) -> None:
    count = 20_100
    texts = [f"caption {number % 50} " * (number % 7) for number in range(count)]
    table = pa.table({"URL": [f"https://a.test/{number}" for number in range(count)], "TEXT": texts})
    if encoding == "DICTIONARY":
        options = {**options, "use_dictionary": True}
    else:
        options = {**options, "use_dictionary": False, "column_encoding": {"URL": encoding, "TEXT": encoding}}
    if options.get("row_group_size"):
        table = table.slice(0, 500)
    rows = read(stored(table, data_page_size=20_000, **options))
    assert [row["TEXT"] or "" for row in rows] == texts[: table.num_rows]
    assert rows[-1]["URL"] == f"https://a.test/{table.num_rows - 1}"
