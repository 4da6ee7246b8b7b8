"""Write rows as a list: parquet, csv or JSON Lines. The same rows give the same bytes."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 10_000
_FORMULA = r"^[\s\x00]*[=+\-@\t\r\n＝＋－＠]"
"""Text that Excel, LibreOffice or Google Sheets take for a formula, by OWASP's list (CSV Injection), also after
whitespace."""


def write_list(
    file_format: str, path: Path, schema: "pa.Schema", tables: "Iterable[pa.Table]", escape_formulas: bool = True
) -> None:
    """Write tables with the columns of `schema` to a local file. Raises OSError."""
    {"parquet": _write_parquet, "csv": _write_csv, "json": _write_json}[file_format](
        path, schema, _group(tables, schema), escape_formulas
    )


def _group(tables: "Iterable[pa.Table]", schema: "pa.Schema") -> "Iterator[pa.Table]":
    """Yield the rows in tables of `ROW_GROUP_ROWS`, so that files do not depend on the parts that come in."""
    import pyarrow as pa

    waiting, rows = list[pa.Table](), 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows < ROW_GROUP_ROWS:
            continue
        joined = pa.concat_tables(waiting)
        for start in range(0, rows - ROW_GROUP_ROWS + 1, ROW_GROUP_ROWS):
            yield joined.slice(start, ROW_GROUP_ROWS).combine_chunks()
        rest = rows % ROW_GROUP_ROWS
        waiting, rows = [joined.slice(rows - rest)], rest
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def _write_parquet(path: Path, schema: "pa.Schema", tables: "Iterable[pa.Table]", _: bool) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def _write_csv(path: Path, schema: "pa.Schema", tables: "Iterable[pa.Table]", escape_formulas: bool) -> None:
    """Write CSV (RFC 4180 quoting, LF line ends): text is quoted, null is empty without quotes."""
    import pyarrow.csv as pc

    with pc.CSVWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(escape(table) if escape_formulas else table)


def escape(table: "pa.Table") -> "pa.Table":
    """Put an apostrophe before text that a spreadsheet would run as a formula. Other columns stay as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(place)
            formulas = pc.fill_null(pc.match_substring_regex(column, _FORMULA), False)
            if pc.any(formulas).as_py():
                escaped = pc.binary_join_element_wise("'", column, "")
                table = table.set_column(place, field, pc.if_else(formulas, escaped, column))
    return table


def _write_json(path: Path, schema: "pa.Schema", tables: "Iterable[pa.Table]", _: bool) -> None:
    """Write one JSON object a line, in UTF-8. NaN and infinite numbers, which JSON does not have, are null."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in tables:
            file.writelines(json_lines(table))


def json_lines(table: "pa.Table") -> Iterator[str]:
    """Yield each row of a table as a JSON object and a newline."""
    for row in table.to_pylist():
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                row[name] = None
        yield _ENCODE(row) + "\n"


_ENCODE: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
is_formula = re.compile(_FORMULA).search
"""Whether a text would be taken for a formula."""
