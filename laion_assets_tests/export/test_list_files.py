"""Lists: exact values in parquet and JSON Lines, and csv that a spreadsheet does not run."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.export import list_files
from laion_assets.export.list_files import write_list

CAPTIONS = [
    "plain", None, "", 'say "hi", then\nleave', "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =HYPERLINK(1)", "＝1", "a=1",
    "\u2028 \x1b[2J ünïcode 🐶", "-",
]  # fmt: skip
ESCAPED = {"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =HYPERLINK(1)", "＝1", "-"}
TABLE = pa.table(
    {
        "caption": CAPTIONS,
        "similarity": pa.array([-0.5, None, float("nan"), float("inf"), *range(10)], pa.float64()),
        "width": pa.array([None, -3, *range(12)], pa.int32()),
    }
)


def _write(path: Path, file_format: str, escape: bool = True) -> bytes:
    write_list(file_format, path, TABLE.schema, [TABLE.slice(0, 3), TABLE.slice(3)], escape)
    return path.read_bytes()


def test_parquet_has_the_same_values(tmp_path: Path) -> None:
    _write(tmp_path / "a", "parquet")
    assert pq.read_table(tmp_path / "a").to_pandas().equals(TABLE.to_pandas())


def test_json_lines_are_valid_json_with_null_for_nan(tmp_path: Path) -> None:
    lines = _write(tmp_path / "a", "json").decode().removesuffix("\n").split("\n")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [row["caption"] for row in rows] == CAPTIONS
    assert [row["similarity"] for row in rows[:4]] == [-0.5, None, None, None]


def test_csv_puts_an_apostrophe_before_formulas_and_leaves_numbers(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(_write(tmp_path / "a", "csv").decode(), newline="")))
    assert [row["caption"] for row in rows] == [
        f"'{caption}" if caption in ESCAPED else caption or "" for caption in CAPTIONS
    ]
    assert (rows[0]["similarity"], rows[1]["width"]) == ("-0.5", "-3")


def test_csv_is_exact_without_escaping_and_distinguishes_null_from_empty(tmp_path: Path) -> None:
    content = _write(tmp_path / "a", "csv", escape=False).decode()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert [row["caption"] for row in rows] == [caption or "" for caption in CAPTIONS]
    assert content.split("\n")[2:4] == [",,-3", '"",nan,0']


@pytest.mark.parametrize("file_format", ["parquet", "csv", "json"])
def test_bytes_do_not_depend_on_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    monkeypatch.setattr(list_files, "ROW_GROUP_ROWS", 4)
    contents = set()
    for step in (1, 3, 4, 5, 14):
        parts = [TABLE.slice(start, step) for start in range(0, TABLE.num_rows, step)]
        write_list(file_format, tmp_path / "a", TABLE.schema, parts)
        contents.add((tmp_path / "a").read_bytes())
    assert len(contents) == 1
    if file_format == "parquet":
        assert pq.ParquetFile(tmp_path / "a").num_row_groups == 4


@pytest.mark.parametrize("file_format", ["parquet", "csv", "json"])
def test_no_rows_are_a_valid_file(tmp_path: Path, file_format: str) -> None:
    write_list(file_format, tmp_path / "a", TABLE.schema, [])
    expected = {"csv": b'"caption","similarity","width"\n', "json": b""}
    if file_format == "parquet":
        assert pq.read_table(tmp_path / "a").schema == TABLE.schema
    else:
        assert (tmp_path / "a").read_bytes() == expected[file_format]
