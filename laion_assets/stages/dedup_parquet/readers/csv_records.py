"""The records of a CSV file: simple lines with vector code, all others one by one with `csv_quotes.parse_record`.

`parse_record` defines what a record is. A line is a record by itself if no quoted field is open before it, and if it
has no quotes or only well-formed ones (`csv_lines.py`); most lines are. Files are read in blocks, so memory is bounded.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa

from laion_assets.stages.dedup_parquet.readers.csv_bytes import BrokenStreamError
from laion_assets.stages.dedup_parquet.readers.csv_lines import MAX_LINES, LineFields, Lines, find_text_fault
from laion_assets.stages.dedup_parquet.readers.csv_quotes import (
    MAX_RECORD_BYTES,
    IncompleteRecordError,
    contains_only_rows,
    parse_record,
)
from laion_assets.stages.dedup_parquet.readers.line_ends import find_line_end, replace_bare_returns, separate_rows
from laion_assets.stages.dedup_parquet.readers.quarantine import Reject
from laion_assets.tables.column_names import FoundColumns, find_columns
from laion_assets.tables.column_rules import ColumnRules
from laion_assets.tables.row_reasons import Reason

_BOM = b"\xef\xbb\xbf"
_BLANK_LINES = re.compile(rb"(?:\r?\n)*")
_ROW = re.compile(rb"(?i)https?://")
"""A first line that contains a URL is a row: the file has no header."""


@dataclass
class Records:
    """Well-formed records of one block, in no particular order, and its rejects.

    `numbers` (n,) int64 are the records' numbers in the file, from 1. `tokens` are n strings (valid UTF-8) by column
    name. `raw` returns the bytes of a record without its line end.
    """

    numbers: np.ndarray
    tokens: dict[str, pa.Array]
    raw: Callable[[int], bytes]
    rejects: list[Reject] = field(default_factory=list)


class RecordReader:
    """Reader of one CSV file from its blocks.

    `header` has the names of the first line. It is None for a file without lines, and empty if the first line is not a
    header: then each line, including the first, is a record. `columns` maps wanted columns to fields. `names` are the
    columns of a file without a header. `quote` is empty if fields are not quoted.
    """

    def __init__(
        self,
        blocks: Iterable[bytes],
        separator: str = "|",
        rules: ColumnRules = ColumnRules(),
        *,
        quote: str = '"',
        names: Sequence[str] = (),
    ) -> None:
        self.header: list[str] | None = None
        self.columns = FoundColumns({}, ())
        self.broken: Reason | None = None
        self._blocks = iter(blocks)
        self._separator, self._quote = separator.encode(), quote.encode()
        self._rules, self._names = rules, names
        self._count = 0
        self._rest = b""
        self._truncated_line = b""
        self._final = False
        self._first = self._read_header()
        self._url_place = self.columns.places.get("URL", -1)

    def records(self) -> Iterator[Records]:
        """Yield the records, block by block. A broken stream ends in a reject with the bytes of its last line."""
        data = self._first
        while True:
            if self._final and self.broken is not None and not self._truncated_line:
                data = self._drop_last_line(data)
            self._rest, found, has_more = self._split_records(self._separate_rows(data))
            if len(found.numbers) or found.rejects:
                yield found
            if has_more:
                data = self._rest
                continue
            if self._final and not self._rest:
                break
            if len(self._rest) > MAX_RECORD_BYTES and b"\n" not in self._rest:
                data = separate_rows(self._rest, self._separator, self._width, self._quote, open_end=True)
                if b"\n" not in data:
                    yield _only_rejects([self._skip_long_line()])
                    data = self._rest
                continue
            data = self._rest + self._next_block()
        if self.broken is not None:
            self._count += 1
            yield _only_rejects([Reject.of(self._count, self.broken, self._truncated_line)])

    @property
    def _width(self) -> int:
        return len(self.header or [])

    def _next_block(self) -> bytes:
        try:
            block = next(self._blocks, None)
        except BrokenStreamError as error:
            self.broken, block = error.reason, None
        if block is None:
            self._final = True
            return b""
        return block

    def _drop_last_line(self, data: bytes) -> bytes:
        """Remove the incomplete last line of a broken file, which may look complete."""
        end = data.rfind(b"\n") + 1
        self._truncated_line = data[end:]
        return data[:end]

    def _separate_rows(self, data: bytes) -> bytes:
        """Return the data with LF for bare CR in lines that hold several rows."""
        if b"\r" not in data:
            return data
        whole = len(data) if self._final else data.rfind(b"\n") + 1
        return separate_rows(data[:whole], self._separator, self._width, self._quote) + data[whole:]

    def _read_header(self) -> bytes:
        """Read the first line that is not blank, and return the bytes after it, or from it if it is not a header."""
        data = self._next_block()
        while not self._final and len(data) < len(_BOM):
            data += self._next_block()
        data, start, line_end = self._first_line(data.removeprefix(_BOM))
        if line_end >= 0 and data.startswith(b"\r", line_end) and not data.startswith(b"\r\n", line_end):
            if self._final:
                data = b"".join(replace_bare_returns(iter([data])))
            else:
                self._blocks = replace_bare_returns(chain([data], self._blocks))
                data = self._next_block()
            data, start, line_end = self._first_line(data)
        if self._final and self.broken is None and not data:
            return b""
        line_end = data.find(b"\n", start)
        if line_end < 0:
            if self.broken is not None:
                return data
            line_end = len(data)
        if line_end == start and self._final:
            return b""
        if self._names:
            self.header = list(self._names)
            self.columns = find_columns(self.header, self._rules)
            return data
        self.header = []
        if line_end - start > MAX_RECORD_BYTES:
            return data
        parsed = parse_record(data, start, line_end, self._separator, True, self._quote)
        line = data[start:line_end].rstrip(b"\r")
        if isinstance(parsed, Reason) or parsed.end != line_end + 1 or b"\r" in line or _ROW.search(line):
            return data
        names = [value.decode(errors="replace").strip() for value in parsed.values]
        self.header = names
        self.columns = find_columns(names, self._rules)
        return data[parsed.end :]

    def _first_line(self, data: bytes) -> tuple[bytes, int, int]:
        """Read blocks until the first non-blank line is complete. Returns the data, and start and end of that line.

        One more byte is read, to distinguish CR from CRLF. The end is -1 if the line does not end in the file, or not
        within the maximum length of a record.
        """
        while True:
            start = _BLANK_LINES.match(data).end()  # type: ignore[union-attr]
            line_end = find_line_end(data, start, self._quote)
            if self._final or 0 <= line_end < len(data) - 1 or len(data) > start + MAX_RECORD_BYTES:
                return data, start, line_end
            data += self._next_block()

    def _skip_long_line(self) -> Reject:
        """Skip a line that is longer than any record, with at most one block in memory."""
        long = Reject.stream(self._count + 1, Reason.RECORD_TOO_LONG)
        self._count += 1
        data = self._rest
        while (end := data.find(b"\n")) < 0:
            long.feed(data)
            data = self._next_block()
            if self._final:
                break
        long.feed(data[: end if end >= 0 else len(data)])
        self._rest = data[end + 1 :] if end >= 0 else b""
        return long.reject()

    def _split_records(self, data: bytes) -> tuple[bytes, Records, bool]:
        """Split the records that end in `data`. Returns the rest, the records, whether the rest has more."""
        lines = Lines.of(data, self._final)
        if not len(lines.starts):
            return (b"" if self._final else data), _only_rejects([]), False
        width = self._width
        fields = LineFields.of(lines, self._separator, width, self._quote)
        is_record = lines.ends > lines.starts
        too_long = is_record & (lines.ends - lines.starts > MAX_RECORD_BYTES)
        unquoted = is_record & ~fields.quoted & ~too_long
        simple = fields.simple & is_record & ~too_long
        parsed_lines: list[tuple[int, Reason | list[bytes], bytes]] = []
        complete = len(lines.starts)
        resume, end_of_lines = 0, lines.end
        for line in np.flatnonzero(fields.quoted & ~fields.simple & ~too_long).tolist():
            if line < resume:
                continue
            start, line_end = int(lines.starts[line]), int(lines.stops[line])
            try:
                parsed = parse_record(data, start, line_end, self._separator, self._final, self._quote)
            except IncompleteRecordError:
                complete = line
                break
            end = line_end + 1
            if not isinstance(parsed, Reason):
                end, value = self._check_record(data, start, line_end, parsed.values, parsed.end, width)
                resume = int(np.searchsorted(lines.starts, end)) if end > line_end + 1 else line + 1
                is_record[line + 1 : resume] = False
                end_of_lines = max(end_of_lines, end)
            else:
                value = parsed
            parsed_lines.append((line, value, data[start : end - 1].removesuffix(b"\r")))
        is_record[complete:] = False
        numbers = self._count + np.cumsum(is_record)
        if len(numbers):
            self._count = int(numbers[-1])
        has_more = complete == len(lines.starts) == MAX_LINES
        rest = data[int(lines.starts[complete]) :] if complete < len(lines.starts) else data[end_of_lines:]
        malformed = (
            (Reason.RECORD_TOO_LONG, too_long & is_record),
            (Reason.WRONG_TOKEN_COUNT, unquoted & ~simple & is_record),
        )
        return rest, self._gather(lines, fields, numbers, simple & is_record, malformed, parsed_lines), has_more

    def _check_record(
        self, data: bytes, start: int, line_end: int, values: list[bytes], end: int, width: int
    ) -> tuple[int, Reason | list[bytes]]:
        """Check a well-quoted record. Returns its end, and its values or the reason of its rejection."""
        if end == line_end + 1:
            return end, values if len(values) == width else Reason.WRONG_TOKEN_COUNT
        raw = data[start : end - 1].removesuffix(b"\r")
        if self._url_place >= 0 and contains_only_rows(raw, self._separator, width, self._url_place):
            # If the quoted field is the last column, it may also be a caption that quotes a row: reject the record.
            return (end if len(values) == width and b"\n" in values[-1] else line_end + 1), Reason.UNCLOSED_QUOTE
        return end, values if len(values) == width else Reason.WRONG_TOKEN_COUNT

    def _gather(
        self,
        lines: Lines,
        fields: LineFields,
        numbers: np.ndarray,
        simple: np.ndarray,
        malformed: tuple[tuple[Reason, np.ndarray], ...],
        parsed_lines: list[tuple[int, Reason | list[bytes], bytes]],
    ) -> Records:
        rejects = [
            Reject.of(int(numbers[line]), why, lines.raw(line))
            for why, chosen in malformed
            for line in np.flatnonzero(chosen).tolist()
        ]
        for line, why in lines.find_text_faults().items():
            if simple[line]:
                simple[line] = False
                rejects.append(Reject.of(int(numbers[line]), why, lines.raw(line)))
        sound: list[tuple[int, list[bytes], bytes]] = []
        for line, value, raw in parsed_lines:
            fault = value if isinstance(value, Reason) else find_text_fault(raw)
            if fault is None and not isinstance(value, Reason):
                sound.append((line, value, raw))
            elif fault is not None:
                rejects.append(Reject.of(int(numbers[line]), fault, raw))
        chosen = np.flatnonzero(simple)
        tokens = fields.columns(lines, chosen, self.columns.places)
        if sound:
            for name, place in self.columns.places.items():
                more = pa.array([values[place] for _, values, _ in sound], pa.binary()).view(pa.string())
                tokens[name] = pa.concat_arrays([tokens[name], more])

        def read_raw(row: int) -> bytes:
            return lines.raw(int(chosen[row])) if row < len(chosen) else sound[row - len(chosen)][2]

        found = np.concatenate([chosen, np.array([line for line, _, _ in sound], np.int64)])
        return Records(numbers[found], tokens, read_raw, rejects)


def _only_rejects(rejects: list[Reject]) -> Records:
    return Records(np.empty(0, np.int64), {}, lambda row: b"", rejects)
