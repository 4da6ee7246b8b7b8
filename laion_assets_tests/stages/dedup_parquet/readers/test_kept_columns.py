"""`dedup.keep_columns`: further columns of the source, with types, in every format."""

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.identity import Positions
from laion_assets.errors import SettingError, SourceError
from laion_assets.stages.dedup_parquet.readers.file_format import READERS
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.columns import MARK
from laion_assets.tables.row_reasons import Note
from laion_assets_tests.stages.dedup_parquet.tables import ONE

KEPT = ("lang", "score: float64", "n:int64", "ok:bool")
SETTINGS = DedupSettings(separator=",", required_columns=("URL", "TEXT"), keep_columns=KEPT)
VALUES = {
    "URL": ["http://a.test/1", "http://a.test/2", "http://a.test/3"],
    "TEXT": ["a", "b", "c"],
    "Lang": ["de", "", "fr"],
    "score": [0.5, float("nan"), None],
    "n": [7, None, -3],
    "ok": [True, False, None],
}
EXPECTED = [("de", 0.5, 7, True), (None, None, None, False), ("fr", None, -3, None)]


def as_csv(values: dict[str, list[Any]]) -> bytes:
    rows = zip(*values.values(), strict=True)
    lines = [",".join("" if value is None else str(value) for value in row) for row in rows]
    return "\n".join([",".join(values), *lines]).encode()


def as_json(values: dict[str, list[Any]]) -> bytes:
    keys = [{"Lang": "lang"}.get(key, key) for key in values]
    return "\n".join(
        json.dumps(dict(zip(keys, row, strict=True))) for row in zip(*values.values(), strict=True)
    ).encode()


def as_parquet(values: dict[str, list[Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(values), file)
    return file.getvalue()


FORMATS = {"csv": as_csv, "json_lines": as_json, "parquet": as_parquet}


def read(kind: str, content: bytes, settings: DedupSettings = SETTINGS) -> list[dict[str, Any]]:
    batches = READERS[kind](io.BytesIO(content), "f", settings, Positions(ONE, [0]))
    return [row for batch in batches for row in batch.to_pylist() if row["kind"] != MARK]


@pytest.mark.parametrize("kind", FORMATS)
def test_kept_columns_have_their_types(kind: str) -> None:
    rows = read(kind, FORMATS[kind](VALUES))
    assert [(row["lang"], row["score"], row["n"], row["ok"]) for row in rows] == EXPECTED
    assert [bool(row["notes"] & Note.KEPT_VALUE_INVALID) for row in rows] == [False, True, False]


def test_values_of_another_type_are_null_with_a_note() -> None:
    content = b"URL,TEXT,lang,score,n,ok\nhttp://a.test/1,a,x,many,1.5,maybe\nhttp://a.test/2,b,x,1e3,200.0,1\n"
    first, second = read("csv", content)
    assert (first["score"], first["n"], first["ok"]) == (None, None, None)
    assert (second["score"], second["n"], second["ok"]) == (1000.0, 200, True)


def test_a_list_is_kept_as_json_text() -> None:
    line = json.dumps({"url": "http://a.test/1", "tags": [1, {"a": "é"}]}).encode()
    (row,) = read("json_lines", line, DedupSettings(keep_columns=("tags",)))
    assert json.loads(row["tags"]) == [1, {"a": "é"}]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda values: {name: values[name] for name in ("URL", "TEXT")}, r"no column lang. It has URL, TEXT"),
        (lambda values: {**values, "Lang": [["a"], [], None]}, r"type of column Lang is list<.*>.*keep_columns"),
    ],
)
def test_a_parquet_file_without_a_kept_column_or_with_a_nested_one_is_refused(
    make: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read("parquet", as_parquet(make(VALUES)))


def test_the_rows_of_a_csv_without_a_kept_column_are_counted() -> None:
    rows = read("csv", b"URL,TEXT\nhttp://a.test/1,a\n")
    assert [row["reason"] for row in rows] == ["file_without_lang"]


@pytest.mark.parametrize("name", ["url", "caption", "status", "SHA256", "uid", "original_width:int64"])
def test_names_that_other_programs_write_are_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"dedup.keep_columns contains .* uses itself"):
        DedupSettings(keep_columns=(name,))


def test_a_name_may_stand_once_and_may_contain_a_colon() -> None:
    with pytest.raises(SettingError, match="twice"):
        DedupSettings(keep_columns=("a", "A:int64"))
    assert [(column.name, column.type) for column in DedupSettings(keep_columns=("dc:title",)).kept] == [
        ("dc:title", "string")
    ]
    assert SAMPLE.dedup.kept == ()
