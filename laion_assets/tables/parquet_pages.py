"""Checks of a parquet file's footer and page headers, before any page is decoded.

An untrusted file may have a schema that is nested so deeply that the C++ reader's stack overflows, or pages of 2 GB
that are compressed to a few bytes. The reader allocates by the page headers, not by the sizes in the footer, so the
headers are read here. A file that passes may still crash the C++ reader, which therefore runs in a child process
(`parquet_process.py`). github.com/apache/parquet-format/blob/master/README.md and Encodings.md
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
"""The field of a page header with the details of each kind of page."""
_DELTA_LENGTH, _DELTA_BYTES = 6, 7
"""Encodings of strings: DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY (shared prefixes)."""


FIX = "Fetch it again, or remove it"


class RefusedParquetError(Exception):
    """The file must not be decoded. The message is the reason, without the name of the file; `fix` is the advice."""

    def __init__(self, message: str, fix: str = FIX) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True)
class Page:
    """The header of a page: decompressed size in bytes, number and encoding of its values.

    `longest` is the length of the longest string of a dictionary page.
    """

    is_dictionary: bool
    size: int
    values: int
    encoding: int
    longest: int = 0

    @property
    def is_delta(self) -> bool:
        """Whether the strings are delta-encoded."""
        return self.encoding in (_DELTA_LENGTH, _DELTA_BYTES)

    @property
    def row_bytes(self) -> float:
        """Maximum mean size of a row over a long range of rows, without values in a dictionary.

        This is the mean of the page, except for DELTA_BYTE_ARRAY: a prefix that all strings share may be as long as the
        page.
        """
        return self.size if self.encoding == _DELTA_BYTES else self.size / max(self.values, 1)


def read_footer(file: Any) -> bytes:
    """Read the footer of a parquet file and check the depth of its schema. Raises RefusedParquetError."""
    size = file.seek(0, 2)
    # The same size as pyarrow reads, so that a file system with a cache reads once.
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
    """Refuse a schema that is nested too deeply. It is field 2 of the footer, a list in depth-first order."""
    open_children: list[int] = []
    for number, value in CompactReader(footer).read_fields():
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


def read_page_headers(chunk: memoryview, meta: Any, long_bytes: int, max_page_bytes: int) -> Iterator[Page]:
    """Read the page headers of a column chunk of a flat column. Raises RefusedParquetError.

    `meta` is the ColumnChunkMetaData. Strings of a dictionary that are longer than `long_bytes` count as long.
    """
    position, values = 0, 0
    while values < meta.num_values:
        reader = CompactReader(chunk, position)
        try:
            header = reader.read_struct()
        except ThriftError as error:
            raise RefusedParquetError(f"column {meta.path_in_schema} is damaged: {error}") from error
        kind, size, stored = (_read_number(header, field) for field in (1, 2, 3))
        details = header.get(_DETAILS.get(kind, 0), {})
        details = details if isinstance(details, dict) else {}
        position = reader.position + stored
        if min(size, stored, _read_number(details, 1)) < 0 or position > len(chunk):
            raise RefusedParquetError(f"column {meta.path_in_schema} has a page that is longer than the column")
        if size > max_page_bytes:
            raise RefusedParquetError(
                f"column {meta.path_in_schema} has a page of {size:,} bytes, stored in {stored:,}: more than "
                f"dedup.limits.max_page_bytes, {max_page_bytes:,}",
                "Write it again with smaller pages, or increase the limit if you trust the file",
            )
        longest = 0
        if kind in (_DATA_PAGE, _DATA_PAGE_V2):
            values += _read_number(details, 1)
        elif kind == _DICTIONARY_PAGE and meta.physical_type == "BYTE_ARRAY":
            longest = _find_longest(chunk[reader.position : position], meta.compression, size, long_bytes)
        encoding = _read_number(details, 4 if kind == _DATA_PAGE_V2 else 2)
        yield Page(kind == _DICTIONARY_PAGE, size, _read_number(details, 1), encoding, longest)
    if values != meta.num_values:
        raise RefusedParquetError(
            f"column {meta.path_in_schema} has {values:,} values, but the footer says {meta.num_values:,}"
        )


def _find_longest(body: memoryview, codec: str, size: int, long_bytes: int) -> int:
    """Return the length of the longest string of a dictionary page. Each string follows its length in 4 bytes.

    Returns the size of the page if a string is long, and if the page cannot be decompressed here: LZ4 is the name of
    two formats that pyarrow tries in turn.
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


def _read_number(struct: dict[int, Any], field: int) -> int:
    value = struct.get(field, 0)
    return value if isinstance(value, int) else -1
