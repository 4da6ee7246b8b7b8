"""What decoding a parquet file would take, from its footer and page headers, before any of it is decoded.

A file from strangers may claim anything: schemas nested so deeply that the C++ reader's stack overflows, pages of 2 GB
that were compressed to some bytes. The footer's sizes are claims of the writer; the page headers are what the reader
allocates by, so they are read here. Whatever passes may still be too much for the C++ reader, which therefore works in
a process of its own (`parquet_process.py`).
github.com/apache/parquet-format/blob/master/README.md and Encodings.md
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from laion_assets.tables.thrift_compact import CompactReader, ThriftError

MAX_SCHEMA_DEPTH = 64
MAX_FOOTER_BYTES = 256 << 20
_TAIL_BYTES, _END_BYTES = 64 << 10, 8
_MAGIC = b"PAR1"
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_DETAILS = {_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}
"""The field of a page header that describes this kind of page."""
_DELTA_LENGTH, _DELTA_BYTES = 6, 7
"""Encodings of strings: lengths as deltas, then the strings; lengths of prefixes and of the rest of each string."""


FIX = "fetch it again, or remove it"


class RefusedParquetError(Exception):
    """The file must not be decoded; the message says what is wrong, without the file's name. `fix` says what to do."""

    def __init__(self, message: str, fix: str = FIX) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True)
class Page:
    """One page: its decompressed size, number and encoding of its values; `longest` is of a dictionary's strings."""

    is_dictionary: bool
    size: int
    values: int
    encoding: int
    longest: int = 0

    @property
    def is_delta(self) -> bool:
        """Whether its strings are delta-encoded."""
        return self.encoding in (_DELTA_LENGTH, _DELTA_BYTES)

    @property
    def row_bytes(self) -> float:
        """Bytes that a row of the page adds, at most, over a long range of rows, without those of a dictionary.

        Most often the mean; a string that others repeat as their prefix may be as long as the page.
        """
        return self.size if self.encoding == _DELTA_BYTES else self.size / max(self.values, 1)


def footer_of(file: Any) -> bytes:
    """The footer of a parquet file, open for reading, whose schema is not too deep. Raises RefusedParquetError."""
    size = file.seek(0, 2)
    # As much as pyarrow reads, so that a file system that keeps what it read is asked once.
    file.seek(max(size - _TAIL_BYTES, 0))
    tail = file.read(_TAIL_BYTES)
    end = tail[-_END_BYTES:]
    length = int.from_bytes(end[:4], "little")
    if size < _END_BYTES + len(_MAGIC) or end[4:] != _MAGIC:
        what = " (it is encrypted)" if end[4:] == b"PARE" else ""
        raise RefusedParquetError(f"it does not end in a parquet footer{what}")
    if length > size - _END_BYTES - len(_MAGIC):
        raise RefusedParquetError(f"its footer of {length:,} bytes is longer than the file")
    if length > MAX_FOOTER_BYTES:
        raise RefusedParquetError(f"its footer has {length:,} bytes, more than {MAX_FOOTER_BYTES >> 20} MiB")
    footer = tail[-_END_BYTES - length : -_END_BYTES]
    if len(footer) < length:
        file.seek(size - _END_BYTES - length)
        footer = file.read(length)
    try:
        _check_depth(footer)
    except ThriftError as error:
        raise RefusedParquetError(f"its footer is damaged: {error}") from error
    return footer


def _check_depth(footer: bytes) -> None:
    """Refuse a schema that is nested too deeply: the footer's field 2, a list of elements in depth-first order."""
    open_children: list[int] = []
    for number, value in CompactReader(footer).fields():
        if number != 2:
            continue
        for element in value if isinstance(value, list) else ():
            children = element.get(5, 0) if isinstance(element, dict) else 0
            while open_children and open_children[-1] == 0:
                open_children.pop()
            if open_children:
                open_children[-1] -= 1
            open_children.append(children if isinstance(children, int) else 0)
            if len(open_children) > MAX_SCHEMA_DEPTH:
                raise RefusedParquetError(f"its schema is nested more than {MAX_SCHEMA_DEPTH} levels deep")
        return


def pages_of(chunk: memoryview, meta: Any, long_bytes: int, max_page_bytes: int) -> Iterator[Page]:
    """The pages of a column chunk of a flat column; `meta` is its ColumnChunkMetaData. Raises RefusedParquetError.

    `long_bytes` is the length from which on a string of a dictionary counts as long.
    """
    position, values = 0, 0
    while values < meta.num_values:
        reader = CompactReader(chunk, position)
        try:
            header = reader.struct()
        except ThriftError as error:
            raise RefusedParquetError(f"column {meta.path_in_schema} is damaged: {error}") from error
        kind, size, stored = (_number(header, field) for field in (1, 2, 3))
        details = header.get(_DETAILS.get(kind, 0), {})
        details = details if isinstance(details, dict) else {}
        position = reader.position + stored
        if min(size, stored, _number(details, 1)) < 0 or position > len(chunk):
            raise RefusedParquetError(f"column {meta.path_in_schema} has a page that is longer than the column")
        if size > max_page_bytes:
            raise RefusedParquetError(
                f"column {meta.path_in_schema} has a page of {size:,} bytes, stored in {stored:,}: more than "
                f"dedup.limits.max_page_bytes, {max_page_bytes:,}",
                "write it again with smaller pages, or raise the limit if you trust the file",
            )
        longest = 0
        if kind in (_DATA_PAGE, _DATA_PAGE_V2):
            values += _number(details, 1)
        elif kind == _DICTIONARY_PAGE and meta.physical_type == "BYTE_ARRAY":
            longest = _longest(chunk[reader.position : position], meta.compression, size, long_bytes)
        encoding = _number(details, 4 if kind == _DATA_PAGE_V2 else 2)
        yield Page(kind == _DICTIONARY_PAGE, size, _number(details, 1), encoding, longest)
    if values != meta.num_values:
        raise RefusedParquetError(
            f"column {meta.path_in_schema} has {values:,} values, and the footer says {meta.num_values:,}"
        )


def _longest(body: memoryview, codec: str, size: int, long_bytes: int) -> int:
    """Bytes of the longest string of a dictionary page, whose strings follow their lengths of 4 bytes each.

    The page's size if a string of it is long, and where its content cannot be found: LZ4 names two formats that pyarrow
    tries in turn.
    """
    if size <= long_bytes or codec == "LZ4":
        return size
    try:
        plain = body if codec == "UNCOMPRESSED" else pa.Codec(codec.lower()).decompress(body, size, asbytes=True)
    except (pa.ArrowException, OSError, ValueError):
        return size
    position, longest, end = 0, 0, len(plain) - 4
    length_at = struct.Struct("<I").unpack_from
    while position <= end and longest < long_bytes:
        (length,) = length_at(plain, position)
        if length > longest:
            longest = length
        position += 4 + length
    return longest if longest < long_bytes else size


def _number(struct: dict[int, Any], field: int) -> int:
    value = struct.get(field, 0)
    return value if isinstance(value, int) else -1
