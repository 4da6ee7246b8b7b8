"""The lines of a block of CSV, and the fields of those that are simple, found with vector code.

A simple line is one that `csv_quotes.parse_record` would read as one record of the right number of fields: each field
holds no quote, or starts and ends with one and holds others only in pairs. A test compares the two on random lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.dedup_parquet.rows.reasons import Reason

MAX_LINES = 1 << 16
"""Lines that are taken apart at once: a block of very short lines would need a thousand times its own memory."""
_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
_UTF8 = (
    r"\A(?:[\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    r"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*\z"
)
"""Bytes that are UTF-8 without NUL (Unicode, table 3-7), for a regular expression over bytes."""


@dataclass(frozen=True)
class Lines:
    """Whole lines of a block: where each starts, ends (without its line end) and stops (at its newline)."""

    data: bytes
    content: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    stops: np.ndarray

    @classmethod
    def of(cls, data: bytes, final: bool) -> "Lines":
        """The lines that `data` holds to their end, at most MAX_LINES; with `final` the last one needs no newline."""
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
        """Bytes of the block that belong to whole lines."""
        return len(self.content)

    def raw(self, line: int) -> bytes:
        """A line without its end."""
        return self.data[int(self.starts[line]) : int(self.ends[line])]

    def at(self, places: np.ndarray) -> np.ndarray:
        """The lines, in order and each once, in which these sorted byte positions lie."""
        found = np.searchsorted(self.starts, places, side="right") - 1
        return found[np.append(True, found[1:] != found[:-1])] if len(found) else found

    def unreadable(self) -> dict[int, Reason]:
        """Lines that are no text, and why."""
        # NUL and the bytes of characters beyond ASCII, in one comparison: as signed numbers they are 0 and less.
        other = self.at(np.flatnonzero(self.content.view(np.int8) <= 0))
        if not len(other):
            return {}
        fine = pc.match_substring_regex(self._bytes(self.starts[other], self.ends[other]), _UTF8)
        bad = other[~fine.to_numpy(zero_copy_only=False)]
        return {line: why for line in bad.tolist() if (why := unreadable(self.raw(line)))}

    def array(self, starts: np.ndarray, ends: np.ndarray) -> pa.StringArray:
        """The n pieces [start, end) of the block, (n,) each, in order and apart: an array of their own."""
        return self._bytes(starts, ends).view(pa.string())

    def _bytes(self, starts: np.ndarray, ends: np.ndarray) -> pa.BinaryArray:
        edges = np.empty(2 * len(starts), np.int32)
        edges[0::2], edges[1::2] = starts, ends
        buffers = [None, pa.py_buffer(edges), pa.py_buffer(self.data)]
        both = pa.BinaryArray.from_buffers(pa.binary(), max(len(edges) - 1, 0), buffers)
        return both.take(pa.array(np.arange(0, len(edges), 2, dtype=np.int32)))


def unreadable(raw: bytes) -> Reason | None:
    """Why a record is no text: UTF-8 as Unicode defines it, without surrogates and overlong forms, without NUL."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return Reason.INVALID_UTF8
    return Reason.NUL_BYTE if b"\0" in raw else None


@dataclass(frozen=True)
class LineFields:
    """Where the fields of n lines lie; `quoted` and `simple` are (n,) bool: whether a line has quotes, is simple."""

    quoted: np.ndarray
    simple: np.ndarray
    _width: int
    _separators: np.ndarray
    _first_separator: np.ndarray
    _quotes: np.ndarray

    @classmethod
    def of(cls, lines: Lines, separator: bytes, width: int) -> "LineFields":
        """Find them for records of `width` fields."""
        quotes = np.flatnonzero(lines.content == _QUOTE)
        quote_edges = np.searchsorted(quotes, np.append(lines.starts, lines.end))
        quoted = quote_edges[1:] > quote_edges[:-1]
        separators = np.flatnonzero(lines.content == separator[0])
        edges = np.searchsorted(separators, np.append(lines.starts, lines.end))
        if len(quotes):
            # A separator with an odd number of the line's quotes to its left lies inside a quoted field.
            some = np.flatnonzero(quoted)
            count = edges[some + 1] - edges[some]
            suspect = np.arange(count.sum()) + np.repeat(edges[some] - np.cumsum(count) + count, count)
            before = np.searchsorted(quotes, separators[suspect]) - np.repeat(quote_edges[some], count)
            separators = np.delete(separators, suspect[before % 2 == 1])
            edges = np.searchsorted(separators, np.append(lines.starts, lines.end))
        simple = edges[1:] - edges[:-1] == width - 1
        found = cls(quoted, simple, width, separators, edges[:-1], quotes)
        chosen = np.flatnonzero(simple & quoted)
        if len(chosen):
            simple[chosen] = found._well_quoted(lines, chosen)
        return found

    def columns(self, lines: Lines, chosen: np.ndarray, places: Mapping[str, int]) -> dict[str, pa.Array]:
        """Columns of these simple lines as strings, by name; `places` gives the index of each column's field."""
        starts, ends = self._spans(lines, chosen)
        quoted = np.flatnonzero(self.quoted[chosen])
        columns = {}
        for name, place in places.items():
            start, end = starts[place], ends[place]
            inside = quoted[lines.content[np.minimum(start[quoted], lines.end - 1)] == _QUOTE]
            inside = inside[start[inside] < end[inside]]
            start[inside] += 1
            end[inside] -= 1
            column = lines.array(start, end)
            if len(inside):
                mask = np.zeros(len(chosen), bool)
                mask[inside] = True
                plain = pc.replace_substring(column.filter(pa.array(mask)), '""', '"')
                column = pc.replace_with_mask(column, pa.array(mask), plain)
            columns[name] = column
        return columns

    def _spans(self, lines: Lines, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(width, n) starts and ends of the fields of these lines, which have the right number of separators."""
        places = self._first_separator[chosen] + np.arange(self._width - 1)[:, None]
        inner = self._separators[places] if self._width > 1 else np.empty((0, len(chosen)), np.int64)
        starts = np.vstack([lines.starts[chosen][None], inner + 1])
        return starts, np.vstack([inner, lines.ends[chosen][None]])

    def _well_quoted(self, lines: Lines, chosen: np.ndarray) -> np.ndarray:
        """(n,) bool: whether in these lines quotes stand only around fields, and in pairs inside."""
        starts, ends = self._spans(lines, chosen)
        first, last = np.searchsorted(self._quotes, starts), np.searchsorted(self._quotes, ends)
        count = last - first
        some = count > 0
        at_start = lines.content[np.minimum(starts, lines.end - 1)] == _QUOTE
        at_end = lines.content[np.maximum(ends - 1, 0)] == _QUOTE
        fine = ~some | (at_start & at_end & (count % 2 == 0))
        # Of a field's quotes 0 ... k - 1, the inner ones 1 and 2, 3 and 4, ... have to follow each other.
        field, line = np.nonzero(some & fine & (count > 2))
        pairs = (count[field, line] - 2) // 2
        owner = np.repeat(np.arange(len(field)), pairs)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        left = first[field, line][owner] + 1 + 2 * number
        apart = owner[self._quotes[left + 1] != self._quotes[left] + 1]
        fine[field[apart], line[apart]] = False
        return fine.all(axis=0)
