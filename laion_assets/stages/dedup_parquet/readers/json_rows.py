"""The rows of one JSON lines file, with the same rules and identity as the rows of a CSV file.

Each line is one JSON object. Keys are found by the rules for column names, in each line anew, since lines may have
different keys. Numbers keep their text, so that no digit is lost.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, Any

import numpy as np
import pyarrow as pa

from laion_assets.dataset.identity import Positions
from laion_assets.stages.dedup_parquet.readers.csv_bytes import read_blocks
from laion_assets.stages.dedup_parquet.readers.encodings import to_utf8
from laion_assets.stages.dedup_parquet.readers.json_lines import LineBatch, LineReader
from laion_assets.stages.dedup_parquet.readers.quarantine import Reject, file_mark, reject_rows
from laion_assets.stages.dedup_parquet.rows.typed_rows import type_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.column_names import FoundColumns, find_columns
from laion_assets.tables.columns import WANTED_COLUMNS
from laion_assets.tables.row_reasons import FileState, Reason, file_without

_KNOWN_KEYS = 1_000
"""Number of different lists of keys whose columns are remembered."""
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def read_json_rows(
    file: IO[bytes], source_file: str, settings: DedupSettings, positions: Positions
) -> Iterator[pa.RecordBatch]:
    """Yield batches of ROW_SCHEMA: each line of a JSON lines file as a row or a reject, and one mark for the file.

    A line that is not a JSON object is rejected, and so is one with a list or an object as a wanted value. If no line
    has a URL, the mark has the keys of the first object.
    """
    lines = LineReader(to_utf8(read_blocks(file, settings.limits), settings.encoding))
    parser = _LineParser(settings)
    for batch in lines.batches():
        yield from parser.parse(batch, source_file, positions)
    state: str = FileState.READ if lines.count else FileState.EMPTY
    header = ""
    if parser.first_keys and not parser.has_urls:
        state, header = file_without("URL"), ", ".join(parser.first_keys)
    yield file_mark(source_file, str(lines.broken or state), positions, header)


class _LineParser:
    """Parser of lines to rows. `first_keys` are those of the first object."""

    def __init__(self, settings: DedupSettings) -> None:
        self.first_keys: tuple[str, ...] = ()
        self.has_urls = False
        self._settings = settings
        rules = settings.column_rules
        self._names = (*WANTED_COLUMNS, *rules.kept_names)

        @lru_cache(maxsize=_KNOWN_KEYS)
        def find(keys: tuple[str, ...]) -> FoundColumns:
            return find_columns(keys, rules)

        self._find = find

    def parse(self, batch: LineBatch, source_file: str, positions: Positions) -> Iterator[pa.RecordBatch]:
        """Yield the rows and the rejects of a batch of lines."""
        rejects = list(batch.rejects)
        sound: list[tuple[int, bytes]] = []
        values: list[list[str]] = []
        for number, line in batch.lines:
            found = self._parse_line(line)
            if isinstance(found, Reason):
                rejects.append(Reject.of(number, found, line))
            else:
                sound.append((number, line))
                values.append(found)
        if sound:
            columns = zip(*values, strict=True)
            tokens = {name: pa.array(column, pa.string()) for name, column in zip(self._names, columns, strict=True)}
            numbers = np.array([number for number, _ in sound], np.int64)
            rows, more = type_rows(tokens, numbers, lambda row: sound[row][1], source_file, self._settings, positions)
            rejects += more
            yield rows
        yield reject_rows(rejects, source_file, positions)

    def _parse_line(self, line: bytes) -> list[str] | Reason:
        """Return the values of the wanted and kept columns as texts, or the reason why the line is rejected."""
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            return Reason.INVALID_UTF8
        try:
            found = _DECODER.decode(text)
        except (ValueError, RecursionError):
            return Reason.NUL_BYTE if "\0" in text else Reason.INVALID_JSON
        if not isinstance(found, dict):
            return Reason.NOT_A_JSON_OBJECT
        keys = tuple(found)
        self.first_keys = self.first_keys or keys
        columns = self._find(keys)
        if columns.repeated:
            return Reason.FILE_WITH_REPEATED_COLUMN
        self.has_urls = self.has_urls or "URL" in columns.places
        values = []
        for name in self._names:
            place = columns.places.get(name)
            value = None if place is None else found[keys[place]]
            if isinstance(value, dict | list):
                if name in WANTED_COLUMNS:
                    return Reason.NESTED_VALUE
                try:
                    value = json.dumps(json.loads(text)[keys[place or 0]], ensure_ascii=False)
                except ValueError:  # an integer of thousands of digits
                    return Reason.INVALID_JSON
            values.append(_to_text(value))
        if "\\u" in text and not all(map(_has_utf8, values)):
            return Reason.INVALID_UTF8
        return values


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value).lower()


def _has_utf8(text: str) -> bool:
    """Whether a text has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
