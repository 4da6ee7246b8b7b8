"""Vectorised search for the lines of a CSV block, and for the fields of its simple lines.

`csv_quotes.parse_record` reads a simple line as one record with the right number of fields: each field has no quotes,
or starts and ends with one and has others only in pairs. A test compares both implementations on random lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.tables.row_reasons import Reason

MAX_LINES = 1 << 16
"""Maximum number of lines split at once. A block of very short lines would need a thousand times its own memory."""
_NEWLINE, _RETURN = 10, 13
_UTF8 = (
    r"\A(?:[\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    r"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*\z"
)
"""Regular expression over bytes for UTF-8 without NUL (Unicode, table 3-7)."""


@dataclass(frozen=True)
class Lines:
    """Complete lines of a block: positions of the starts, of the ends (before the line end) and of the newlines."""

    data: bytes
    content: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    stops: np.ndarray

    @classmethod
    def of(cls, data: bytes, final: bool) -> "Lines":
        """Find the complete lines of `data`, at most MAX_LINES. With `final` the last one needs no newline."""
        content = np.frombuffer(data, np.uint8)
        stops = np.flatnonzero(content == _NEWLINE)
        if final and len(data) and (not len(stops) or stops[-1] != len(data) - 1):
            stops = np.append(stops, len(data))
        stops = stops[:MAX_LINES]
        starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
        last = np.maximum(stops - 1, 0)
        returns = (stops > starts) & (content[last] == _RETURN) if len(stops) else stops.astype(bool)
        end = min(int(stops[-1]) + 1, len(data)) if len(stops) else 0
        return cls(data, content[:end], starts, stops - returns, stops)

    @property
    def end(self) -> int:
        """Number of bytes of the complete lines."""
        return len(self.content)

    def raw(self, line: int) -> bytes:
        """Return a line without its line end."""
        return self.data[int(self.starts[line]) : int(self.ends[line])]

    def containing(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers of the lines that contain these sorted byte positions, in order, without duplicates."""
        found = np.searchsorted(self.starts, places, side="right") - 1
        return found[np.append(True, found[1:] != found[:-1])] if len(found) else found

    def find_text_faults(self) -> dict[int, Reason]:
        """Find the lines that are not valid text, with the reason of each."""
        # NUL and the bytes of non-ASCII characters in one comparison: as signed numbers they are <= 0.
        other = self.containing(np.flatnonzero(self.content.view(np.int8) <= 0))
        if not len(other):
            return {}
        fine = pc.match_substring_regex(self._bytes(self.starts[other], self.ends[other]), _UTF8)
        bad = other[~fine.to_numpy(zero_copy_only=False)]
        return {line: why for line in bad.tolist() if (why := find_text_fault(self.raw(line)))}

    def array(self, starts: np.ndarray, ends: np.ndarray) -> pa.StringArray:
        """Copy n pieces [start, end) of the block, in order and not overlapping, into an array. (n,) each."""
        return self._bytes(starts, ends).view(pa.string())

    def _bytes(self, starts: np.ndarray, ends: np.ndarray) -> pa.BinaryArray:
        edges = np.empty(2 * len(starts), np.int32)
        edges[0::2], edges[1::2] = starts, ends
        buffers = [None, pa.py_buffer(edges), pa.py_buffer(self.data)]
        both = pa.BinaryArray.from_buffers(pa.binary(), max(len(edges) - 1, 0), buffers)
        return both.take(pa.array(np.arange(0, len(edges), 2, dtype=np.int32)))


def find_text_fault(raw: bytes) -> Reason | None:
    """Return the reason why a record is not valid text (UTF-8 without surrogates, overlong forms and NUL), or None."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return Reason.INVALID_UTF8
    return Reason.NUL_BYTE if b"\0" in raw else None


@dataclass(frozen=True)
class LineFields:
    """Fields of n lines. `quoted` and `simple` are (n,) bool: whether a line has quotes, and whether it is simple."""

    quoted: np.ndarray
    simple: np.ndarray
    _width: int
    _separators: np.ndarray
    _first_separator: np.ndarray
    _quotes: np.ndarray
    _quote: bytes

    @classmethod
    def of(cls, lines: Lines, separator: bytes, width: int, quote: bytes = b'"') -> "LineFields":
        """Find the fields of lines that have `width` fields. `quote` is empty if fields are not quoted."""
        quotes = np.flatnonzero(lines.content == quote[0]) if quote else np.empty(0, np.int64)
        quote_edges = np.searchsorted(quotes, np.append(lines.starts, lines.end))
        quoted = quote_edges[1:] > quote_edges[:-1]
        separators = np.flatnonzero(lines.content == separator[0])
        edges = np.searchsorted(separators, np.append(lines.starts, lines.end))
        if len(quotes):
            # A separator is inside a quoted field if an odd number of quotes of its line precede it.
            some = np.flatnonzero(quoted)
            count = edges[some + 1] - edges[some]
            suspect = np.arange(count.sum()) + np.repeat(edges[some] - np.cumsum(count) + count, count)
            before = np.searchsorted(quotes, separators[suspect]) - np.repeat(quote_edges[some], count)
            separators = np.delete(separators, suspect[before % 2 == 1])
            edges = np.searchsorted(separators, np.append(lines.starts, lines.end))
        simple = edges[1:] - edges[:-1] == width - 1
        found = cls(quoted, simple, width, separators, edges[:-1], quotes, quote)
        chosen = np.flatnonzero(simple & quoted)
        if len(chosen):
            simple[chosen] = found._is_well_quoted(lines, chosen)
        return found

    @property
    def _quote_code(self) -> int:
        return self._quote[0] if self._quote else -1

    def columns(self, lines: Lines, chosen: np.ndarray, places: Mapping[str, int]) -> dict[str, pa.Array]:
        """Return columns of simple lines as strings, by name. `places` has the index of each column's field."""
        starts, ends = self._find_fields(lines, chosen)
        quoted = np.flatnonzero(self.quoted[chosen])
        columns = {}
        for name, place in places.items():
            start, end = starts[place], ends[place]
            inside = quoted[lines.content[np.minimum(start[quoted], lines.end - 1)] == self._quote_code]
            inside = inside[start[inside] < end[inside]]
            start[inside] += 1
            end[inside] -= 1
            column = lines.array(start, end)
            if len(inside):
                mask = np.zeros(len(chosen), bool)
                mask[inside] = True
                sign = self._quote.decode()
                plain = pc.replace_substring(column.filter(pa.array(mask)), sign * 2, sign)
                column = pc.replace_with_mask(column, pa.array(mask), plain)
            columns[name] = column
        return columns

    def _find_fields(self, lines: Lines, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return starts and ends of the fields of simple lines, each (width, n)."""
        places = self._first_separator[chosen] + np.arange(self._width - 1)[:, None]
        inner = self._separators[places] if self._width > 1 else np.empty((0, len(chosen)), np.int64)
        starts = np.vstack([lines.starts[chosen][None], inner + 1])
        return starts, np.vstack([inner, lines.ends[chosen][None]])

    def _is_well_quoted(self, lines: Lines, chosen: np.ndarray) -> np.ndarray:
        """Return (n,) bool: whether all quotes of a line are around fields, or in pairs inside of quoted fields."""
        starts, ends = self._find_fields(lines, chosen)
        first, last = np.searchsorted(self._quotes, starts), np.searchsorted(self._quotes, ends)
        count = last - first
        some = count > 0
        at_start = lines.content[np.minimum(starts, lines.end - 1)] == self._quote_code
        at_end = lines.content[np.maximum(ends - 1, 0)] == self._quote_code
        fine = ~some | (at_start & at_end & (count % 2 == 0))
        # Of the quotes 0 ... k - 1 of a field, the inner ones 1 and 2, 3 and 4, ... must be adjacent.
        field, line = np.nonzero(some & fine & (count > 2))
        pairs = (count[field, line] - 2) // 2
        owner = np.repeat(np.arange(len(field)), pairs)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        left = first[field, line][owner] + 1 + 2 * number
        apart = owner[self._quotes[left + 1] != self._quotes[left] + 1]
        fine[field[apart], line[apart]] = False
        return fine.all(axis=0)
