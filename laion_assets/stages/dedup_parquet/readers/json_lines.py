"""The lines of a JSON lines file (jsonlines.org), in batches of bounded size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from laion_assets.stages.dedup_parquet.readers.csv_bytes import BrokenStreamError
from laion_assets.stages.dedup_parquet.readers.csv_quotes import MAX_RECORD_BYTES
from laion_assets.stages.dedup_parquet.readers.quarantine import Reject, RejectStream
from laion_assets.tables.row_reasons import Reason

_BOM = b"\xef\xbb\xbf"


@dataclass
class LineBatch:
    """Lines of a block that are not blank, each with its number in the file, from 1, and rejected lines."""

    lines: list[tuple[int, bytes]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class LineReader:
    """Reader of the lines of a file from its blocks.

    Lines end in LF, CRLF or CR: JSON has no such character inside of a string. Blank lines are not counted. A line that
    is longer than any record is a reject. A broken stream ends in a reject with the bytes of its last line; `broken` is
    the reason then.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.broken: Reason | None = None
        self.count = 0
        self._blocks = iter(blocks)
        self._long: RejectStream | None = None

    def batches(self) -> Iterator[LineBatch]:
        """Yield the lines, block by block."""
        rest, is_start = b"", True
        for block in self._read_blocks():
            data = rest + block
            if is_start:
                if len(data) < len(_BOM):
                    rest = data
                    continue
                data, is_start = data.removeprefix(_BOM), False
            *lines, rest = data.replace(b"\r", b"\n").split(b"\n")
            batch = LineBatch()
            for line in lines:
                self._add(batch, line)
            if len(rest) > MAX_RECORD_BYTES:
                self._feed_long(rest)
                rest = b""
            yield batch
        batch = LineBatch()
        if self.broken is None:
            self._add(batch, rest.removeprefix(_BOM) if is_start else rest)
        else:
            self.count += self._long is None
            long = self._long or Reject.stream(self.count, self.broken)
            long.feed(rest)
            batch.rejects.append(long.reject(self.broken))
        yield batch

    def _read_blocks(self) -> Iterator[bytes]:
        try:
            yield from self._blocks
        except BrokenStreamError as error:
            self.broken = error.reason

    def _add(self, batch: LineBatch, line: bytes) -> None:
        if self._long is not None:
            self._long.feed(line)
            batch.rejects.append(self._long.reject())
            self._long = None
        elif len(line) > MAX_RECORD_BYTES:
            self.count += 1
            batch.rejects.append(Reject.of(self.count, Reason.RECORD_TOO_LONG, line))
        elif line.strip():
            self.count += 1
            batch.lines.append((self.count, line))

    def _feed_long(self, piece: bytes) -> None:
        if self._long is None:
            self.count += 1
            self._long = Reject.stream(self.count, Reason.RECORD_TOO_LONG)
        self._long.feed(piece)
