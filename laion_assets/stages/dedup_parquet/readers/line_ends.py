"""Lines of CSV files that end in a bare CR instead of LF or CRLF, in the whole file or in some lines.

In a file whose lines end in LF, a bare CR inside an unquoted field is text: pandas writes such captions. So a bare CR
is a line end only if the header ends in one, or if each piece between bare CRs is a complete row.
"""

import re
from collections.abc import Iterator
from functools import cache

from laion_assets.stages.dedup_parquet.readers.csv_bytes import BrokenStreamError

_BARE_RETURN = re.compile(rb"\r(?!\n)")


def find_line_end(data: bytes, start: int, quote: bytes = b'"') -> int:
    """Return the position of the first line end after `start`, CR or LF, outside of quotes; -1 if there is none."""
    for found in _line_or_quoted(quote).finditer(data, start):
        if data[found.start()] in b"\r\n":
            return found.start()
    return -1


@cache
def _line_or_quoted(quote: bytes) -> re.Pattern[bytes]:
    """Return the expression for a quoted text, or a line end outside of one."""
    sign = re.escape(quote)
    return re.compile(rb"%b[^%b]*(?:%b|\Z)|[\r\n]" % (sign, sign, sign) if quote else rb"[\r\n]")


def replace_bare_returns(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks with LF for each bare CR. CRLF and lengths stay. Raises like `blocks`."""
    held = b""
    try:
        for block in blocks:
            data = held + block
            # The next block tells whether a final CR is bare.
            held = data[len(data) - 1 :] if data.endswith(b"\r") else b""
            yield _BARE_RETURN.sub(b"\n", data[: len(data) - len(held)])
    except BrokenStreamError:
        if held:
            yield b"\n"
        raise
    if held:
        yield b"\n"


def separate_rows(data: bytes, separator: bytes, width: int, quote: bytes = b'"', *, open_end: bool = False) -> bytes:
    """Replace each bare CR by LF in lines that hold several rows. The length stays.

    A line holds several rows if it has no quotes and each piece between bare CRs has `width` fields. With `open_end`,
    the last line may continue after `data`, so its last piece is ignored; two others must be rows.
    """
    if width < 2 or b"\r" not in data or _BARE_RETURN.search(data) is None:
        return data
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        pieces = line.removesuffix(b"\r").split(b"\r")
        if len(pieces) == 1 or (quote and quote in line):
            continue
        is_open = open_end and number == len(lines) - 1
        rows = [piece for piece in (pieces[:-1] if is_open else pieces) if piece]
        if len(rows) > 1 and all(row.count(separator) == width - 1 for row in rows):
            lines[number] = b"\n".join(pieces) + line[len(line.removesuffix(b"\r")) :]
    return b"\n".join(lines)
