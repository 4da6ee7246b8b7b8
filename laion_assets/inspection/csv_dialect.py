"""The dialect of a CSV file: separator, quote character and header, found with the reader that reads the file later."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laion_assets.stages.dedup_parquet.readers.csv_quotes import parse_record
from laion_assets.stages.dedup_parquet.readers.csv_records import RecordReader
from laion_assets.stages.dedup_parquet.readers.line_ends import find_line_end
from laion_assets.tables.column_rules import ColumnRules, KeptColumn
from laion_assets.tables.row_reasons import Reason

SEPARATORS = ("|", ",", "\t", ";")
QUOTES = ('"', "")
_BOM = b"\xef\xbb\xbf"
_URL = re.compile(r"https?://[^\s<>\"]+\Z", re.IGNORECASE)
_TOLERANCE = 0.02
"""Share of rows by which a dialect with more columns may be worse than the best one."""


@dataclass(frozen=True)
class CsvTable:
    """The sample of a file as one dialect reads it. `columns` are the values of the sound rows, by column.

    `names` are those of the header; without a header they are `column_1`, `column_2`, ...
    """

    separator: str
    quote: str
    has_header: bool
    names: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    rejected: int

    @property
    def url_rows(self) -> int:
        """Largest number of rows with a URL in the same column."""
        return max((sum(map(is_url, column)) for column in self.columns), default=0)


def is_url(value: str) -> bool:
    """Whether a value is an http or https URL and nothing else."""
    return _URL.match(value.strip()) is not None


def detect_dialect(data: bytes, separators: Sequence[str] = SEPARATORS, quotes: Sequence[str] = QUOTES) -> CsvTable:
    """Return the sample (UTF-8) in the dialect that reads most rows with a URL.

    Of dialects that are about equally good, one with several columns is chosen, then one with quotes.
    """
    tables = [read_table(data, separator, quote) for separator in separators for quote in quotes]
    best = max(table.url_rows - table.rejected for table in tables)
    near = [table for table in tables if table.url_rows - table.rejected >= best - _TOLERANCE * abs(best)]
    return max(near, key=lambda table: (len(table.names) > 1, table.url_rows - table.rejected, bool(table.quote)))


def read_table(data: bytes, separator: str, quote: str) -> CsvTable:
    """Read a sample in one dialect."""
    data = data.removeprefix(_BOM).lstrip(b"\r\n")
    end = find_line_end(data, 0, quote.encode())
    end = len(data) if end < 0 else end
    first = parse_record(data[:end] + b"\n", 0, end, separator.encode(), True, quote.encode())
    if isinstance(first, Reason):
        return CsvTable(separator, quote, True, (), (), data.count(b"\n") + 1)
    keys = tuple(f"column_{place}" for place in range(1, len(first.values) + 1))
    rules = ColumnRules(kept=tuple(KeptColumn(key) for key in keys))
    reader = RecordReader([data], separator, rules, quote=quote, names=keys)
    rows: list[tuple[int, tuple[str, ...]]] = []
    rejected = 0
    for records in reader.records():
        rejected += len(records.rejects)
        if len(records.numbers):
            values = zip(*(records.tokens[key].to_pylist() for key in keys), strict=True)
            rows += zip(np.asarray(records.numbers).tolist(), values, strict=True)
    rows.sort(key=lambda row: row[0])
    has_header = bool(rows) and rows[0][0] == 1 and not any(map(is_url, rows[0][1]))
    names = tuple(name.strip() for name in rows[0][1]) if has_header else keys
    sound = [values for _, values in rows[has_header:]]
    columns = tuple(zip(*sound, strict=True)) if sound else tuple(() for _ in keys)
    return CsvTable(separator, quote, has_header, names, columns, rejected)
