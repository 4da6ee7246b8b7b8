"""The identity of a row, and a digest of rows that does not depend on how Arrow holds them."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.layout import Layout

_SEPARATOR = b"\0"


def uid_of(url: str, caption: str | None) -> str:
    """The uid of a row: md5 of url, NUL and caption, 32 hex digits; a null caption counts as empty."""
    return hashlib.md5(url.encode() + _SEPARATOR + (caption or "").encode()).hexdigest()


def uid_digests(urls: Iterable[bytes], captions: Iterable[bytes | None]) -> list[bytes]:
    """The uids of many rows as 16 bytes each, from UTF-8."""
    md5 = hashlib.md5
    return [md5(url + _SEPARATOR + (caption or b"")).digest() for url, caption in zip(urls, captions, strict=True)]


def raw_digest(raw: bytes) -> bytes:
    """What decides the range of a quarantined record: md5 of its raw bytes, 16 bytes."""
    return hashlib.md5(raw).digest()


class Positions:
    """Where a hash belongs: its place among the parquet files that are asked for, -1 if it is in none of them.

    The same cut as `Layout.parquet_of_uid`, over digests instead of hex.
    """

    def __init__(self, layout: Layout, partitions: Iterable[int]) -> None:
        self._starts = [layout.uid_range(parquet)[0].to_bytes(16, "big") for parquet in range(layout.parquet_files)]
        self._positions = [-1] * layout.parquet_files
        for position, parquet in enumerate(partitions):
            self._positions[parquet] = position

    def of(self, digests: Iterable[bytes]) -> np.ndarray:
        """(n,) int32: the positions of these digests."""
        starts, positions = self._starts, self._positions
        return np.array([positions[bisect_right(starts, digest) - 1] for digest in digests], dtype=np.int32)


def rows_digest(table: pa.Table) -> str:
    """32 hex digits of sha256 over column names, kinds and values, in order.

    Strings are hashed as lengths (int64, little endian, -1 for null) and UTF-8 bytes, numbers as a null mask and
    64-bit values (0 for null), so that chunks, offsets, padding, dictionary encoding and the pyarrow version do not
    matter. A null and an empty string differ.
    """
    digest = hashlib.sha256(f"{table.num_rows}".encode())
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        text = not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
        kind = "text" if text else "float" if pa.types.is_floating(column.type) else "int"
        digest.update(f"\n{name}:{kind}\n".encode())
        for part in _text_parts(column) if text else _number_parts(column, kind):
            digest.update(part)
    return digest.hexdigest()[:32]


def _text_parts(column: pa.ChunkedArray) -> Iterable[bytes]:
    column = column.cast(pa.large_binary())
    yield pc.fill_null(pc.binary_length(column), -1).to_numpy().astype("<i8").tobytes()
    for chunk in pc.fill_null(column, b"").chunks:
        if len(chunk):
            offsets = np.frombuffer(chunk.buffers()[1], "<i8")[chunk.offset : chunk.offset + len(chunk) + 1]
            if offsets[-1] > offsets[0]:
                yield chunk.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes()


def _number_parts(column: pa.ChunkedArray, kind: str) -> Iterable[bytes]:
    yield column.is_null().to_numpy().astype("u1").tobytes()
    wide, stored = (pa.float64(), "<f8") if kind == "float" else (pa.int64(), "<i8")
    yield pc.fill_null(column.cast(wide), 0).to_numpy().astype(stored).tobytes()
