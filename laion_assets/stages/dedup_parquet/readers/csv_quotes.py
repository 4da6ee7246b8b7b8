"""One record of a CSV in pandas' dialect, read with care: the definition of what a record is.

Fields are separated by one character; a field that starts with a quote ends at the next quote that is not doubled, and
after it only a separator or the end of the line may stand. Quotes inside an unquoted field are text, as pandas and
Python's csv read them; pandas never writes them, so a record that spans lines may not hold any: there they are the
sign of a quote that was opened elsewhere and never closed.
"""

from dataclasses import dataclass

from laion_assets.stages.dedup_parquet.rows.reasons import Reason

MAX_RECORD_BYTES = 1 << 20
"""A record is given up at this length: enough for a caption of 100,000 characters of 4 bytes, each quote doubled."""
QUOTE = b'"'


@dataclass(frozen=True)
class Fields:
    """A record's fields, unquoted, and where in the block the next record starts (after the newline)."""

    values: list[bytes]
    end: int


class IncompleteRecordError(Exception):
    """The record goes on after the block that is at hand."""


def parse_record(block: bytes, start: int, line_end: int, separator: bytes, final: bool) -> Fields | Reason:
    """The record that starts at `start`, whose first line ends at `line_end` (the newline, or the block's end).

    Returns a Reason where the first line is no record: the caller rejects that line alone and goes on after it.
    Raises IncompleteRecordError if the answer depends on what follows the block; never when `final`.
    """
    limit = min(len(block), start + MAX_RECORD_BYTES)
    open_ended = not final and limit == len(block)
    values: list[bytes] = []
    position, literal_quote, first_line_end = start, False, line_end
    while True:
        if block.startswith(QUOTE, position):
            close = _closing_quote(block, position + 1, limit)
            if close < 0 or (close + 1 >= limit and open_ended):
                if open_ended:
                    raise IncompleteRecordError
                return Reason.UNCLOSED_QUOTE
            values.append(block[position + 1 : close].replace(b'""', QUOTE))
            if close > line_end:
                newline = block.find(b"\n", close, limit)
                if newline < 0:
                    if open_ended:
                        raise IncompleteRecordError
                    if limit < len(block):
                        return Reason.RECORD_TOO_LONG
                    newline = limit
                line_end = newline
            position = close + 1
            if position < line_end and block[position : position + 1] != separator:
                if not (position + 1 == line_end and block.startswith(b"\r", position)):
                    return Reason.BAD_QUOTE if line_end == first_line_end else Reason.UNCLOSED_QUOTE
                position = line_end
        else:
            found = block.find(separator, position, line_end)
            stop = found if found >= 0 else line_end
            value = block[position:stop]
            if found < 0 and value.endswith(b"\r"):
                value = value[:-1]
            literal_quote = literal_quote or QUOTE in value
            values.append(value)
            position = stop
        if position >= line_end:
            break
        position += 1
    if literal_quote and line_end != first_line_end:
        return Reason.UNCLOSED_QUOTE
    return Fields(values, line_end + 1)


def swallows_rows(raw: bytes, separator: bytes, width: int, url_column: int) -> bool:
    """Whether every line of a record that spans lines is a row in itself, with a web address in its place.

    Then its quote was never meant to close where it did, on a quote inside a later row.
    """
    for line in raw.split(b"\n"):
        fields = line.split(separator)
        if len(fields) != width or not fields[url_column].strip().lower().startswith((b"http://", b"https://")):
            return False
    return True


def _closing_quote(block: bytes, position: int, limit: int) -> int:
    """Where the quoted field that is open at `position` closes, -1 if it does not before `limit`."""
    while True:
        position = block.find(QUOTE, position, limit)
        if position < 0 or not block.startswith(b'""', position) or position + 1 >= limit:
            return position
        position += 2
