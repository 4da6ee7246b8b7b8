"""The typed rows of one CSV file, with uid and place. Every dropped record has a counted reason."""

from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from laion_assets.dataset.identity import Positions
from laion_assets.stages.dedup_parquet.readers.csv_bytes import read_blocks
from laion_assets.stages.dedup_parquet.readers.csv_records import RecordReader, Records
from laion_assets.stages.dedup_parquet.readers.encodings import to_utf8
from laion_assets.stages.dedup_parquet.readers.quarantine import Reject, file_mark, reject_rows
from laion_assets.stages.dedup_parquet.rows.typed_rows import type_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.column_names import find_name
from laion_assets.tables.columns import WANTED_COLUMNS
from laion_assets.tables.row_reasons import FileState, Reason, file_without


def read_csv_rows(
    file: IO[bytes], source_file: str, settings: DedupSettings, positions: Positions
) -> Iterator[pa.RecordBatch]:
    """Yield batches of ROW_SCHEMA: each record of a CSV file as a row or a reject, and one mark for the file.

    Only rows of the partitions in `positions` are yielded.
    """
    reader = RecordReader(
        to_utf8(read_blocks(file, settings.limits), settings.encoding),
        settings.separator,
        settings.column_rules,
        quote=settings.quote,
        names=settings.column_names,
    )
    left_out = _find_file_fault(reader, (*settings.required_columns, *settings.column_rules.kept_names))
    found = 0
    for records in reader.records():
        found += len(records.numbers) + len(records.rejects)
        if left_out is not None:
            yield reject_rows(_reject_all(records, left_out), source_file, positions)
            continue
        rejects = records.rejects
        if len(records.numbers):
            rows, more = type_rows(records.tokens, records.numbers, records.raw, source_file, settings, positions)
            rejects += more
            yield rows
        yield reject_rows(rejects, source_file, positions)
    state: str = FileState.READ if found else FileState.HEADER_ONLY if reader.header else FileState.EMPTY
    header = "" if left_out is None else settings.separator.join(reader.header or [])
    yield file_mark(source_file, str(left_out or reader.broken or state), positions, header)


def _find_file_fault(reader: RecordReader, required: tuple[str, ...]) -> str | None:
    """Return the reason why no row of a file is used, None if they are. The recipe skips files without `similarity`."""
    if reader.header is None:
        return None
    if not reader.header:
        return Reason.FILE_WITH_BAD_HEADER
    for name in required:
        is_wanted = name in WANTED_COLUMNS
        if name not in reader.columns.places if is_wanted else not find_name(reader.header, name):
            return file_without(name)
    return Reason.FILE_WITH_REPEATED_COLUMN if reader.columns.repeated else None


def _reject_all(records: Records, why: str) -> list[Reject]:
    rejects = [Reject(each.number, why, each.raw, each.length, each.digest) for each in records.rejects]
    return rejects + [Reject.of(number, why, records.raw(row)) for row, number in enumerate(records.numbers.tolist())]
