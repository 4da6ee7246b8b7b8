"""Line ends of CSV files that are not LF or CRLF: lines that end in CR alone, in the whole file or in some lines.

A bare CR inside an unquoted field is text in a file whose lines end in LF: pandas writes such captions. So a bare CR is
a line end only where the header ends in one, or where each piece between bare CRs is a row by itself.
"""

import re
from collections.abc import Iterator

from laion_assets.stages.dedup_parquet.readers.csv_bytes import BrokenGzipError

_BARE_RETURN = re.compile(rb"\r(?!\n)")
_LINE_OR_QUOTED = re.compile(rb'"[^"]*(?:"|\Z)|[\r\n]')
"""A quoted text, or a line end outside of one."""


def first_line_end(data: bytes, start: int) -> int:
    """Where the first line end after `start` is, CR or LF; -1 without one. Line ends within quotes do not count."""
    for found in _LINE_OR_QUOTED.finditer(data, start):
        if data[found.start()] != ord('"'):
            return found.start()
    return -1


def with_newlines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks with each bare CR as LF, so of the same length; CRLF stays. Raises what `blocks` raises."""
    held = b""
    try:
        for block in blocks:
            data = held + block
            # Whether the last CR is bare, the next block says.
            held = data[len(data) - 1 :] if data.endswith(b"\r") else b""
            yield _BARE_RETURN.sub(b"\n", data[: len(data) - len(held)])
    except BrokenGzipError:
        if held:
            yield b"\n"
        raise
    if held:
        yield b"\n"


def separate_rows(data: bytes, separator: bytes, width: int, *, open_end: bool = False) -> bytes:
    """The data with LF for bare CR in lines that hold several rows; of the same length.

    A line holds several rows if it has no quote and each piece between bare CRs has `width` fields. With `open_end` the
    last line may go on after `data`: then its last piece is not looked at, if two others are rows.
    """
    if width < 2 or b"\r" not in data or _BARE_RETURN.search(data) is None:
        return data
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        pieces = line.removesuffix(b"\r").split(b"\r")
        if len(pieces) == 1 or b'"' in line:
            continue
        is_open = open_end and number == len(lines) - 1
        rows = [piece for piece in (pieces[:-1] if is_open else pieces) if piece]
        if len(rows) > 1 and all(row.count(separator) == width - 1 for row in rows):
            lines[number] = b"\n".join(pieces) + line[len(line.removesuffix(b"\r")) :]
    return b"\n".join(lines)
