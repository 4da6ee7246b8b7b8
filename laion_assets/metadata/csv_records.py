"""The records of a CSV file: lines without quotes by the million with Arrow, the others one by one with care.

A record is what `csv_quotes.parse_record` says. A line that holds no quote, and in which no quoted field is open, is
a record by itself, so it can be split at its separators with vector code; most lines are such. Blocks keep memory
bounded whatever the file holds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.metadata.csv_bytes import BrokenGzipError
from laion_assets.metadata.csv_quotes import MAX_RECORD_BYTES, IncompleteRecordError, parse_record, swallows_rows
from laion_assets.metadata.quarantine import Reject
from laion_assets.metadata.reasons import Reason

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
_BOM = b"\xef\xbb\xbf"


@dataclass
class Records:
    """Sound records of one block, in no particular order, and its rejects.

    `numbers` (n,) int64: the records' numbers in the file, from 1. `raw`: n binaries, the records without their line
    ends. `tokens`: n * width binaries, record after record.
    """

    numbers: np.ndarray
    raw: pa.BinaryArray
    tokens: pa.BinaryArray
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
        lines = _Lines.of(data, self._final)
        if not len(lines.starts):
            return (b"" if self._final else data), _nothing([])
        width = len(self.header or [])
        separators = np.add.reduceat(lines.content == self._separator[0], lines.starts, dtype=np.int64)
        quotes = np.add.reduceat(lines.content == _QUOTE, lines.starts, dtype=np.int64)
        is_record = lines.ends > lines.starts
        plain = is_record & (quotes == 0)
        too_long = lines.ends - lines.starts > MAX_RECORD_BYTES
        careful: list[tuple[int, Reason | list[bytes], bytes]] = []
        complete = len(lines.starts)
        resume = 0
        for line in np.flatnonzero((quotes > 0) & ~too_long).tolist():
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
                is_record[line + 1 : resume] = plain[line + 1 : resume] = False
            else:
                value = parsed
            careful.append((line, value, data[start : end - 1].removesuffix(b"\r")))
        is_record[complete:] = plain[complete:] = False
        numbers = self._count + np.cumsum(is_record)
        if len(numbers):
            self._count = int(numbers[-1])
        rest = data[int(lines.starts[complete]) :] if complete < len(lines.starts) else data[lines.end :]
        return rest, self._gather(data, lines, numbers, plain & is_record, too_long & is_record, separators, careful)

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
        data: bytes,
        lines: "_Lines",
        numbers: np.ndarray,
        plain: np.ndarray,
        too_long: np.ndarray,
        separators: np.ndarray,
        careful: list[tuple[int, Reason | list[bytes], bytes]],
    ) -> Records:
        width = len(self.header or [])
        plain &= ~too_long
        right = plain & (separators == width - 1)
        rejects = [
            Reject.of(int(numbers[line]), why, lines.raw(data, line))
            for why, lost in ((Reason.RECORD_TOO_LONG, too_long), (Reason.WRONG_TOKEN_COUNT, plain & ~right))
            for line in np.flatnonzero(lost).tolist()
        ]
        sound = [(line, value, raw) for line, value, raw in careful if not isinstance(value, Reason)]
        rejects += [Reject.of(int(numbers[line]), why, raw) for line, why, raw in careful if isinstance(why, Reason)]
        chosen = np.flatnonzero(right)
        raw = lines.array(data, chosen)
        tokens = pc.split_pattern(raw, self._separator).values if len(chosen) else _binaries([])
        if not sound:
            return Records(numbers[chosen], raw, tokens, rejects)
        return Records(
            np.concatenate([numbers[chosen], numbers[[line for line, _, _ in sound]]]),
            pa.concat_arrays([raw, _binaries([each for _, _, each in sound])]),
            pa.concat_arrays([tokens, _binaries([each for _, values, _ in sound for each in values])]),
            rejects,
        )

    _cut = b""


@dataclass(frozen=True)
class _Lines:
    """The whole lines of a block: where each starts, ends (without its line end) and stops (at its newline)."""

    content: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    stops: np.ndarray

    @classmethod
    def of(cls, data: bytes, final: bool) -> "_Lines":
        content = np.frombuffer(data, np.uint8)
        stops = np.flatnonzero(content == _NEWLINE)
        if final and len(data) and (not len(stops) or stops[-1] != len(data) - 1):
            stops = np.append(stops, len(data))
        starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
        last = np.maximum(stops - 1, 0)
        returns = (stops > starts) & (content[last] == _RETURN) if len(stops) else stops.astype(bool)
        end = min(int(stops[-1]) + 1, len(data)) if len(stops) else 0
        return cls(content[:end], starts, stops - returns, stops)

    @property
    def end(self) -> int:
        return len(self.content)

    def raw(self, data: bytes, line: int) -> bytes:
        return data[int(self.starts[line]) : int(self.ends[line])]

    def array(self, data: bytes, chosen: np.ndarray) -> pa.BinaryArray:
        """The chosen lines as one array of their own."""
        edges = np.column_stack([self.starts, self.ends]).astype(np.int32).reshape(-1)
        both = pa.BinaryArray.from_buffers(pa.binary(), len(edges) - 1, [None, pa.py_buffer(edges), pa.py_buffer(data)])
        return both.take(pa.array(chosen * 2))


def _binaries(values: list[bytes]) -> pa.BinaryArray:
    return pa.array(values, pa.binary())


def _nothing(rejects: list[Reject]) -> Records:
    return Records(np.empty(0, np.int64), _binaries([]), _binaries([]), rejects)
