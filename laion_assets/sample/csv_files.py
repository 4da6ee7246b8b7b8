"""CSV files like those of the published crawls: the dialect of pandas, with headers that differ between files."""

import csv
import gzip
import io
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

COLUMNS = ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity")
FOLDERS = (
    "2021-01-05",
    "2021-01-12",
    "2021-01-19",
    "2021-02-02",
    "2021-02-16",
    "2021-03-02",
    "2021-03-16",
    "2021-03-30",
)
SEPARATOR = "|"
FILES = 32
"""The number of files of a crawl, for any number of pages."""
_UNKNOWN_COLUMNS = {"language": ("en", "de", "ja", ""), "alt_length": ("12", "34", "56"), "etag": ("W/abc", "W/def")}


@dataclass(frozen=True)
class Record:
    """One valid row of a CSV file: the index of its page (-1 for a left-out row) and its fields by column."""

    page: int
    fields: dict[str, str]


@dataclass(frozen=True)
class CsvFile:
    """One file of the listing: its path, bytes, columns, valid rows in order, and malformed rows by kind.

    `trait` is its special property: plain, drifted, no_similarity, empty, header_only, bom, crlf or gzip.
    """

    path: str
    content: bytes
    trait: str
    columns: tuple[str, ...]
    records: tuple[Record, ...]
    malformed: dict[str, int] = field(default_factory=dict)

    @property
    def left_out(self) -> bool:
        """Whether the recipe leaves out the whole file, because its header has no `similarity`."""
        return self.trait == "no_similarity"


def csv_file(
    number: int, trait: str, records: list[Record], lines: list[tuple[str, bytes]], rng: np.random.Generator
) -> CsvFile:
    """Write file `number` of a crawl: records and malformed lines (kind, bytes), with a header by its trait.

    An unclosed quote comes after all other quotes of its file. Before another quote, it is another defect.
    """
    columns = _header(trait, number, rng)
    end = "\r\n" if trait == "crlf" else "\n"
    encoded = [_line([_cell(record, column, rng) for column in columns], end) for record in records]
    pieces = list(zip(records, encoded, strict=True))
    if any(kind == "unclosed_quote" for kind, _ in lines):
        pieces.sort(key=lambda piece: b'"' not in piece[1])
    order: list[bytes] = [line for _, line in pieces]
    for kind, line in sorted(lines, key=lambda each: each[0] == "unclosed_quote"):
        if kind == "unclosed_quote":
            quoted = max((place + 1 for place, each in enumerate(order) if b'"' in each), default=0)
            place = int(rng.integers(quoted, len(order) + 1))
        else:
            place = int(rng.integers(0, len(order) + 1))
        order.insert(place, line + end.encode())
    content = b"" if trait == "empty" else _line(list(columns), end) + b"".join(order)
    if trait == "bom":
        content = b"\xef\xbb\xbf" + content
    if trait == "gzip":
        content = gzip.compress(content, mtime=0)
    path = f"{FOLDERS[number * len(FOLDERS) // FILES]}/part-{number % (FILES // len(FOLDERS)):03d}.csv"
    path += ".gz" if trait == "gzip" else ""
    kept = tuple(record for record, _ in pieces)
    return CsvFile(path, content, trait, columns, kept, dict(Counter(kind for kind, _ in lines)))


def _header(trait: str, number: int, rng: np.random.Generator) -> tuple[str, ...]:
    if trait == "empty":
        return ()
    if trait == "no_similarity":
        return COLUMNS[:-1]
    if trait != "drifted":
        return COLUMNS
    columns = list(COLUMNS)
    missing = ("", "LICENSE", "NSFW", "HEIGHT", "SAMPLE_ID", "WIDTH")[number // 3 % 6]
    if missing:
        columns.remove(missing)
    if number % 2:
        columns.insert(int(rng.integers(len(columns))), tuple(_UNKNOWN_COLUMNS)[number // 3 % len(_UNKNOWN_COLUMNS)])
    return tuple(columns[place] for place in rng.permutation(len(columns)).tolist())


def _cell(record: Record, column: str, rng: np.random.Generator) -> str:
    if column in _UNKNOWN_COLUMNS:
        return str(rng.choice(_UNKNOWN_COLUMNS[column]))
    return record.fields[column]


def _line(cells: list[str], end: str) -> bytes:
    """Encode one row as pandas writes it."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=SEPARATOR, quoting=csv.QUOTE_MINIMAL, lineterminator=end).writerow(cells)
    return buffer.getvalue().encode()
