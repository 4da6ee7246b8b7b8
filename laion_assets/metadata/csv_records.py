"""The records of a CSV file: simple lines by the million with vector code, the others one by one with care.

A record is what `csv_quotes.parse_record` says. A line in which no quoted field is open before it, and whose quotes are
none or in order, is a record by itself (`csv_lines.py`); most lines are such. Blocks keep memory bounded whatever the
file holds.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from laion_assets.metadata.csv_bytes import BrokenGzipError
from laion_assets.metadata.csv_lines import LineFields, Lines, unreadable
from laion_assets.metadata.csv_quotes import MAX_RECORD_BYTES, IncompleteRecordError, parse_record, swallows_rows
from laion_assets.metadata.quarantine import Reject
from laion_assets.metadata.reasons import Reason

_BOM = b"\xef\xbb\xbf"


@dataclass
class Records:
    """Sound records of one block, in no particular order, and its rejects.

    `numbers` (n,) int64: the records' numbers in the file, from 1. `tokens`: n strings (valid UTF-8) by the header's
    name of the column. `raw` gives the record of a row as it stands in the file, without its line end.
    """

    numbers: np.ndarray
    tokens: dict[str, pa.Array]
    raw: Callable[[int], bytes]
    rejects: list[Reject] = field(default_factory=list)


class RecordReader:
    """Reads one CSV file from its blocks; `header` is there once `records` has given its first block or ended.

    `header` is None for a file without any line. `check_width` False gives every record of the right or a wrong
    number of tokens as a reject of no reason; it is for files that are left out as a whole.
    """

    def __init__(self, blocks: Iterable[bytes], separator: str = "|") -> None:
        self.header: list[str] | None = None
        self.url_column = -1
        self.broken: Reason | None = None
        self._blocks = iter(blocks)
        self._separator = separator.encode()
        self._count = 0
        self._rest = b""
        self._final = False
        self._first = self._read_header()

    def records(self) -> Iterator[Records]:
        """The file's records, block by block. A broken gzip ends in a reject with what was left of its last line."""
        data = self._first
        while True:
            self._rest, found = self._split(data)
            if len(found.numbers) or found.rejects:
                yield found
            if self._final and not self._rest:
                break
            if len(self._rest) > MAX_RECORD_BYTES and b"\n" not in self._rest:
                yield _nothing([self._long_line()])
                data = self._rest
                continue
            data = self._rest + self._next_block()
        if self.broken is not None:
            self._count += 1
            yield _nothing([Reject.of(self._count, self.broken, self._cut)])

    def _next_block(self) -> bytes:
        try:
            block = next(self._blocks, None)
        except BrokenGzipError as error:
            self.broken, block = error.reason, None
        if block is None:
            self._final = True
            return b""
        return block

    def _end_of_broken(self, data: bytes) -> bytes:
        """Cut the unfinished last line off a broken file: it may look whole and is not."""
        end = data.rfind(b"\n") + 1
        self._cut = data[end:]
        return data[:end]

    def _read_header(self) -> bytes:
        data = self._next_block().removeprefix(_BOM)
        while not self._final and b"\n" not in data and len(data) <= MAX_RECORD_BYTES:
            data += self._next_block()
        if self._final and self.broken is None and not data:
            return b""
        data = data.removeprefix(_BOM)
        start = 0
        while data.startswith((b"\n", b"\r\n"), start):
            start += 1 if data.startswith(b"\n", start) else 2
        line_end = data.find(b"\n", start)
        if line_end < 0:
            if self.broken is not None:
                return data
            line_end = len(data)
        if line_end - start > MAX_RECORD_BYTES:
            self.header = []
            return data
        parsed = parse_record(data, start, line_end, self._separator, True)
        if isinstance(parsed, Reason):
            self.header = []
            return data[line_end + 1 :]
        names = [value.decode(errors="replace").strip() for value in parsed.values]
        rest = data[parsed.end :] or self._next_block()
        if names == [""] and not rest:
            return b""
        self.header = names
        self.url_column = names.index("URL") if "URL" in names else -1
        return rest

    def _long_line(self) -> Reject:
        """Skip a line that is longer than any record, holding no more of it than a block."""
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

    def _split(self, data: bytes) -> tuple[bytes, Records]:
        """The records that end in `data`, and the rest that has to wait for more."""
        if self._final and self.broken is not None:
            data = self._end_of_broken(data)
        lines = Lines.of(data, self._final)
        if not len(lines.starts):
            return (b"" if self._final else data), _nothing([])
        width = len(self.header or [])
        fields = LineFields.of(lines, self._separator, width)
        is_record = lines.ends > lines.starts
        too_long = is_record & (lines.ends - lines.starts > MAX_RECORD_BYTES)
        unquoted = is_record & ~fields.quoted & ~too_long
        simple = fields.simple & is_record & ~too_long
        careful: list[tuple[int, Reason | list[bytes], bytes]] = []
        complete = len(lines.starts)
        resume = 0
        for line in np.flatnonzero(fields.quoted & ~fields.simple & ~too_long).tolist():
            if line < resume:
                continue
            start, line_end = int(lines.starts[line]), int(lines.stops[line])
            try:
                parsed = parse_record(data, start, line_end, self._separator, self._final)
            except IncompleteRecordError:
                complete = line
                break
            end = line_end + 1
            if not isinstance(parsed, Reason):
                end, value = self._judge(data, start, line_end, parsed.values, parsed.end, width)
                resume = int(np.searchsorted(lines.starts, end)) if end > line_end + 1 else line + 1
                is_record[line + 1 : resume] = False
            else:
                value = parsed
            careful.append((line, value, data[start : end - 1].removesuffix(b"\r")))
        is_record[complete:] = False
        numbers = self._count + np.cumsum(is_record)
        if len(numbers):
            self._count = int(numbers[-1])
        rest = data[int(lines.starts[complete]) :] if complete < len(lines.starts) else data[lines.end :]
        lost = (
            (Reason.RECORD_TOO_LONG, too_long & is_record),
            (Reason.WRONG_TOKEN_COUNT, unquoted & ~simple & is_record),
        )
        return rest, self._gather(lines, fields, numbers, simple & is_record, lost, careful)

    def _judge(
        self, data: bytes, start: int, line_end: int, values: list[bytes], end: int, width: int
    ) -> tuple[int, Reason | list[bytes]]:
        """Whether a well-quoted record is believed: where it ends, and its values or why not."""
        if end == line_end + 1:
            return end, values if len(values) == width else Reason.WRONG_TOKEN_COUNT
        raw = data[start : end - 1].removesuffix(b"\r")
        if self.url_column >= 0 and swallows_rows(raw, self._separator, width, self.url_column):
            # With the open quote in the last column, a caption that tells of a row looks just the same: keep neither.
            return (end if len(values) == width and b"\n" in values[-1] else line_end + 1), Reason.UNCLOSED_QUOTE
        return end, values if len(values) == width else Reason.WRONG_TOKEN_COUNT

    def _gather(
        self,
        lines: Lines,
        fields: LineFields,
        numbers: np.ndarray,
        simple: np.ndarray,
        lost: tuple[tuple[Reason, np.ndarray], ...],
        careful: list[tuple[int, Reason | list[bytes], bytes]],
    ) -> Records:
        rejects = [
            Reject.of(int(numbers[line]), why, lines.raw(line))
            for why, chosen in lost
            for line in np.flatnonzero(chosen).tolist()
        ]
        for line, why in lines.unreadable().items():
            if simple[line]:
                simple[line] = False
                rejects.append(Reject.of(int(numbers[line]), why, lines.raw(line)))
        sound: list[tuple[int, list[bytes], bytes]] = []
        for line, value, raw in careful:
            fault = value if isinstance(value, Reason) else unreadable(raw)
            if fault is None and not isinstance(value, Reason):
                sound.append((line, value, raw))
            elif fault is not None:
                rejects.append(Reject.of(int(numbers[line]), fault, raw))
        chosen = np.flatnonzero(simple)
        tokens = fields.columns(lines, chosen, self.header or [])
        if sound:
            for place, name in enumerate(self.header or []):
                if name in tokens:
                    more = pa.array([values[place] for _, values, _ in sound], pa.binary()).view(pa.string())
                    tokens[name] = pa.concat_arrays([tokens[name], more])

        def raw_of(row: int) -> bytes:
            return lines.raw(int(chosen[row])) if row < len(chosen) else sound[row - len(chosen)][2]

        found = np.concatenate([chosen, np.array([line for line, _, _ in sound], np.int64)])
        return Records(numbers[found], tokens, raw_of, rejects)

    _cut = b""


def _nothing(rejects: list[Reject]) -> Records:
    return Records(np.empty(0, np.int64), {}, lambda row: b"", rejects)
