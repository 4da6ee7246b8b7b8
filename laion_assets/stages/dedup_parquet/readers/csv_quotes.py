"""Parser of one CSV record in the dialect of pandas. It defines what a record is.

One character separates fields. A field that starts with a quote ends at the next quote that is not followed by a second
one, and only a separator or the end of the line may follow. Quotes inside an unquoted field are text, as in pandas and
Python's csv. pandas never writes such quotes, so a record that spans several lines must not have any: there they show
that an earlier quote was never closed.
"""

from dataclasses import dataclass

from laion_assets.tables.row_reasons import Reason

MAX_RECORD_BYTES = 1 << 20
"""Maximum length of a record: enough for a caption of 100,000 characters of 4 bytes with escaped quotes."""
QUOTE = b'"'


@dataclass(frozen=True)
class Fields:
    """The unquoted fields of a record, and the position of the next record, after the newline."""

    values: list[bytes]
    end: int


class IncompleteRecordError(Exception):
    """The record continues after the present block."""


def parse_record(
    block: bytes, start: int, line_end: int, separator: bytes, final: bool, quote: bytes = QUOTE
) -> Fields | Reason:
    """Parse the record at `start`, whose first line ends at `line_end` (its newline, or the end of the block).

    `quote` is the quote character; empty if fields are not quoted.
    Returns a Reason if the first line is malformed: the caller rejects that line and continues with the next one.
    Raises IncompleteRecordError if the result depends on the bytes after the block, never with `final`.
    """
    limit = min(len(block), start + MAX_RECORD_BYTES)
    open_ended = not final and limit == len(block)
    values: list[bytes] = []
    position, literal_quote, first_line_end = start, False, line_end
    while True:
        if quote and block.startswith(quote, position):
            close = _find_closing_quote(block, position + 1, limit, quote)
            if close < 0 or (close + 1 >= limit and open_ended):
                if open_ended:
                    raise IncompleteRecordError
                return Reason.UNCLOSED_QUOTE
            values.append(block[position + 1 : close].replace(quote * 2, quote))
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
            literal_quote = literal_quote or bool(quote and quote in value)
            values.append(value)
            position = stop
        if position >= line_end:
            break
        position += 1
    if literal_quote and line_end != first_line_end:
        return Reason.UNCLOSED_QUOTE
    return Fields(values, line_end + 1)


def contains_only_rows(raw: bytes, separator: bytes, width: int, url_column: int) -> bool:
    """Whether every line of a multi-line record is a complete row, with a URL in the URL column.

    Then the opening quote was never closed, and the record ended at a quote of a later row.
    """
    for line in raw.split(b"\n"):
        fields = line.split(separator)
        if len(fields) != width or not fields[url_column].strip().lower().startswith((b"http://", b"https://")):
            return False
    return True


def _find_closing_quote(block: bytes, position: int, limit: int, quote: bytes) -> int:
    """Return the position of the closing quote of the field that is open at `position`, -1 if none before `limit`."""
    while True:
        position = block.find(quote, position, limit)
        if position < 0 or not block.startswith(quote * 2, position) or position + 1 >= limit:
            return position
        position += 2
