"""The rows of one parquet file, with the same rules and identity as the rows of a CSV file.

Columns are found by name (`column_names.py`). Other columns (`hash`, `LANGUAGE`, `pwatermark`, `punsafe`,
`AESTHETIC_SCORE`, ...) are ignored. Rows are decoded to strings in pieces of bounded size, no matter how often a
dictionary value repeats.
"""

import json
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa

from laion_assets.dataset.identity import Positions
from laion_assets.stages.dedup_parquet.readers.csv_quotes import MAX_RECORD_BYTES
from laion_assets.stages.dedup_parquet.readers.quarantine import Reject, file_mark, reject_rows
from laion_assets.stages.dedup_parquet.rows.typed_rows import type_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.columns import RAW_BYTES
from laion_assets.tables.parquet_columns import NUMBERS, TextColumn, is_text
from laion_assets.tables.parquet_process import ParquetReader, open_parquet
from laion_assets.tables.row_reasons import FileState, Reason

MIN_ROW_BYTES = 100
"""Minimum size of a row when the decoded size of a file is measured: empty rows also cost time and disk."""
_PIECE_BYTES = 16 << 20
"""Size of the strings that are decoded at once."""


def read_parquet_rows(
    file: IO[bytes], source_file: str, settings: DedupSettings, positions: Positions
) -> Iterator[pa.RecordBatch]:
    """Yield batches of ROW_SCHEMA: each row of a parquet file as a row or a reject, and one mark for the file.

    A row that is longer than the longest CSV record is rejected as record_too_long. If a file expands beyond
    `dedup.limits`, the rest of its rows become one reject, expansion_limit. Raises SourceError naming the file if
    it is corrupt or encrypted, if the URL or TEXT column is missing or ambiguous, or if a column has an unsuitable
    type.
    """
    with open_parquet(file, source_file, settings.limits, settings.column_rules) as parquet:
        yield from _read_rows(parquet, source_file, settings, positions)


def _read_rows(
    parquet: ParquetReader, source_file: str, settings: DedupSettings, positions: Positions
) -> Iterator[pa.RecordBatch]:
    number, decoded = 0, 0
    state: str = FileState.EMPTY
    for batch in parquet.batches():
        columns = {wanted: TextColumn.of(batch.column(name)) for wanted, name in parquet.columns.items()}
        sizes = np.sum([column.sizes for column in columns.values()], axis=0)
        decoded += int(np.clip(sizes, MIN_ROW_BYTES, MAX_RECORD_BYTES).sum())
        if decoded > settings.limits.allowed_bytes(parquet.size):
            state = Reason.EXPANSION_LIMIT
            raw = json.dumps({"rows_not_read": parquet.rows - number}).encode()
            yield reject_rows([Reject.of(number + 1, Reason.EXPANSION_LIMIT, raw)], source_file, positions)
            break
        state = FileState.READ
        numbers = np.arange(number + 1, number + 1 + batch.num_rows, dtype=np.int64)
        number += batch.num_rows
        raw_of = _row_formatter(batch, parquet.columns, columns, sizes)
        too_long = np.flatnonzero(sizes > MAX_RECORD_BYTES).tolist()
        long = [Reject.of(int(numbers[row]), Reason.RECORD_TOO_LONG, raw_of(row)) for row in too_long]
        yield reject_rows(long, source_file, positions)
        for rows in _split_by_size(sizes):
            yield from _type_piece(columns, rows, numbers, raw_of, source_file, settings, positions)
    yield file_mark(source_file, state, positions)


def _split_by_size(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the numbers of rows that are not too long, in order, in pieces of about `_PIECE_BYTES`."""
    fitting = np.flatnonzero(sizes <= MAX_RECORD_BYTES)
    piece = np.cumsum(sizes[fitting]) // _PIECE_BYTES
    yield from np.split(fitting, np.flatnonzero(np.diff(piece)) + 1) if len(fitting) else ()


def _type_piece(
    columns: dict[str, TextColumn],
    rows: np.ndarray,
    numbers: np.ndarray,
    raw_of: Callable[[int], bytes],
    source_file: str,
    settings: DedupSettings,
    positions: Positions,
) -> Iterator[pa.RecordBatch]:
    """Yield the given rows of a batch, and the rejects among them."""
    texts = {wanted: column.take(rows) for wanted, column in columns.items()}
    bad = sorted({row for wanted, text in texts.items() if columns[wanted].is_text for row in _find_invalid_utf8(text)})
    rejects = []
    for row in bad:
        raw = b"|".join(text[row].as_py() for wanted, text in texts.items() if wanted not in NUMBERS)
        rejects.append(Reject.of(int(numbers[rows[row]]), Reason.INVALID_UTF8, raw))
    if bad:
        kept = np.setdiff1d(np.arange(len(rows)), bad)
        rows, texts = rows[kept], {wanted: text.take(pa.array(kept)) for wanted, text in texts.items()}
    tokens = {wanted: text.view(pa.string()) for wanted, text in texts.items()}
    found, more = type_rows(tokens, numbers[rows], lambda row: raw_of(int(rows[row])), source_file, settings, positions)
    yield found
    yield reject_rows(rejects + more, source_file, positions)


def _find_invalid_utf8(text: pa.BinaryArray) -> list[int]:
    try:
        text.view(pa.string()).validate(full=True)
    except pa.ArrowInvalid:
        return [row for row, value in enumerate(text.to_pylist()) if not _is_utf8(value)]
    return []


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _row_formatter(
    batch: pa.RecordBatch, names: dict[str, str], columns: dict[str, TextColumn], sizes: np.ndarray
) -> Callable[[int], bytes]:
    """Return a function that formats a row as JSON for the rejects file: a parquet row has no raw bytes.

    Texts of a row that is too long are truncated.
    """

    def value(wanted: str, row: int) -> Any:
        field = batch.column(names[wanted])
        if not is_text(field.type):
            return field[row].as_py()
        if not field[row].is_valid:
            return None
        most = MAX_RECORD_BYTES if sizes[row] <= MAX_RECORD_BYTES else RAW_BYTES
        return columns[wanted].head(row, most).decode(errors="replace")

    def raw(row: int) -> bytes:
        fields = {name: value(wanted, row) for wanted, name in names.items()}
        return json.dumps(fields, sort_keys=True, default=str, ensure_ascii=False).encode()

    return raw
