"""Predicates: one expression over the columns, in a database that reaches nothing else."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from laion_assets.errors import ExportError
from laion_assets.export.rows.predicate import Predicate, connect

TABLE = pa.table(
    {
        "uid": ["a", "b"],
        "caption": ["red car", None],
        "width": pa.array([1, 2], pa.int32()),
        "URL": ["http://a.de/x", "y"],
        "exif": ["{}", '{"Make":"x"}'],
    }
)
COLUMNS = {field.name: field.type for field in TABLE.schema}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width > 1", [False, True]),
        ("caption ILIKE '%RED%' AND url LIKE 'http%'", [True, False]),
        ("length(caption) > 3", [True, False]),
        ("regexp_matches(caption, '^red')", [True, False]),
        ("exif->>'$.Make' = 'x'", [False, True]),
        ("caption IS NULL OR width IN (1)", [True, True]),
        ("NOT (caption = 'red car')", [False, False]),
        ("CASE WHEN width = 1 THEN true END", [True, False]),
        ("width::DOUBLE / 2 > 0.6", [False, True]),
        ("list_has_any(string_split(caption, ' '), ['red'])", [True, False]),
        ("len(list_filter([1, 2], lambda x: x > width)) > 0", [True, False]),
        ("split_part(url, '/', 3) = 'a.de' -- the host", [True, False]),
        ("true", [True, True]),
    ],
)
def test_an_expression_selects_rows_and_null_is_false(text: str, expected: list[bool]) -> None:
    assert Predicate(text, COLUMNS).mask(TABLE).tolist() == expected


def test_columns_are_found_in_any_letter_case() -> None:
    assert Predicate("url = 'y' AND WIDTH = 2", COLUMNS).columns == ["URL", "width"]


@pytest.mark.parametrize(
    "text",
    [
        "", "1; SELECT 1", "true) UNION SELECT (true", "true) FROM (VALUES (1)) t(x) WHERE (true", "true) LIMIT (1",
        "true), (false", "width IN (SELECT 1)", "EXISTS (FROM read_text('/etc/passwd'))",
        "read_text('/etc/passwd') = ''", "lpad(caption, 900000000, 'x') = ''", "repeat(caption, 900000000) = ''",
        "getenv('HOME') = ''", "random() > 0.5", "now() > '2020-01-01'", "current_date > '2020-01-01'", "uuid() = ''",
        "current_setting('threads') = 1", "setseed(0.1) IS NULL", "pg_sleep(1)", "sleep_ms(1)", "nextval('x') = 1",
        "error('x')", "write_log('x') IS NULL", "json_serialize_sql('SELECT 1') = ''", "sum(width) > 1",
        "row_number() OVER () = 1", "*", "columns('width') = 1", "? = 1", "$1 = 1", "rows.width = 1", "nope = 1",
        "pg_catalog.lower(caption) = 'x'", "width +", "/*", "'a", "caption > 5", "(" * 3_000 + "1" + ")" * 3_000,
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_the_predicate_and_the_columns(text: str) -> None:
    with pytest.raises(ExportError) as error:
        Predicate(text, COLUMNS)
    assert repr(text[:80])[1:-1] in str(error.value)
    assert "Columns: uid, caption, width, URL, exif" in str(error.value)


def test_a_value_that_cannot_be_converted_names_the_predicate() -> None:
    with pytest.raises(ExportError, match=r"caption::INT > 1.*Could not convert string 'red car'"):
        Predicate("caption::INT > 1", COLUMNS).mask(TABLE)


def test_the_database_has_no_files_network_extensions_or_settings(tmp_path: Path) -> None:
    """The second line of defence: also a statement that passed the parser would reach nothing."""
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    connection = connect()
    for statement in (
        f"SELECT * FROM '{tmp_path}/secret.csv'",
        f"SELECT * FROM read_text('{tmp_path}/secret.csv')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET threads = 8",
        "SET memory_limit = '100GB'",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(statement)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_python_variables_are_not_tables() -> None:
    secret = TABLE
    with pytest.raises(duckdb.CatalogException):
        connect().execute("SELECT * FROM secret")
    assert secret is TABLE
