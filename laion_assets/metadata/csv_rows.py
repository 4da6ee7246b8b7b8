"""The rows of one CSV file, typed, aligned by the header's names, with uid and place; nothing is dropped unnamed."""

from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from laion_assets.errors import SettingError
from laion_assets.metadata.csv_bytes import blocks
from laion_assets.metadata.csv_records import RecordReader, Records
from laion_assets.metadata.identity import Positions
from laion_assets.metadata.quarantine import Reject, file_mark, reject_rows
from laion_assets.metadata.reasons import FileState, Reason
from laion_assets.metadata.schema import WANTED_COLUMNS
from laion_assets.metadata.settings import MetadataSettings
from laion_assets.metadata.typed_rows import typed_rows


def rows_of_file(
    file: IO[bytes], source_file: str, settings: MetadataSettings, positions: Positions
) -> Iterator[pa.RecordBatch]:
    """Batches of ROW_SCHEMA: each record of the file as a row or a reject, and one mark for the file.

    Only what belongs to the partitions of `positions` is given. Raises SettingError for a separator that is not one
    ASCII character.
    """
    if len(settings.separator) != 1 or not settings.separator.isascii() or settings.separator in '"\n\r':
        raise SettingError(f"metadata.separator is {settings.separator!r}: it has to be one ASCII character, like |.")
    reader = RecordReader(blocks(file), settings.separator)
    left_out = _why_left_out(reader.header, settings.required_columns)
    found = 0
    for records in reader.records():
        found += len(records.numbers) + len(records.rejects)
        if left_out is not None:
            yield reject_rows(_all_rejected(records, left_out), source_file, positions)
            continue
        rejects = records.rejects
        if len(records.numbers):
            rows, more = typed_rows(records.tokens, records.numbers, records.raw, source_file, settings, positions)
            rejects += more
            yield rows
        yield reject_rows(rejects, source_file, positions)
    state: str = FileState.READ if found else FileState.HEADER_ONLY if reader.header else FileState.EMPTY
    yield file_mark(source_file, str(left_out or reader.broken or state), positions)


def _why_left_out(header: list[str] | None, required: tuple[str, ...]) -> Reason | None:
    """Why a file's rows cannot be used; the recipe leaves files without `similarity` out."""
    if header is None:
        return None
    if not header:
        return Reason.FILE_WITH_BAD_HEADER
    for name in required:
        if name not in header:
            return Reason(f"file_without_{name.lower()}")
    if any(header.count(name) > 1 for name in WANTED_COLUMNS):
        return Reason.FILE_WITH_REPEATED_COLUMN
    return None


def _all_rejected(records: Records, why: Reason) -> list[Reject]:
    rejects = [Reject(each.number, why, each.raw, each.length, each.digest) for each in records.rejects]
    return rejects + [Reject.of(number, why, records.raw(row)) for row, number in enumerate(records.numbers.tolist())]
