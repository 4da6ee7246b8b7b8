"""The uid of a row, the partition of a digest, and a digest of rows that does not depend on Arrow's memory layout."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.dataset.layout import Layout, ParquetNumber

try:
    # CPython's own implementation, if it has one: for short texts it takes half the time of OpenSSL's.
    from _md5 import md5 as _md5
except ImportError:
    from hashlib import md5 as _md5

_SEPARATOR = b"\0"


def compute_uid(url: str, caption: str | None) -> str:
    """Return the uid of a row: the md5 of url, NUL and caption, 32 hex digits. A null caption counts as empty."""
    return hashlib.md5(url.encode() + _SEPARATOR + (caption or "").encode()).hexdigest()


def uid_digests(urls: pa.Array, captions: pa.Array) -> np.ndarray:
    """Compute the uids of n rows from urls and captions (strings, a null caption counts as empty), (n, 16) uint8."""
    captions = pc.fill_null(captions.view(pa.binary()), b"")
    joined = pc.binary_join_element_wise(urls.view(pa.binary()), captions, _SEPARATOR)
    if not len(joined):
        return np.empty((0, 16), np.uint8)
    offsets = np.frombuffer(joined.buffers()[1], np.int32)[joined.offset : joined.offset + len(joined) + 1].tolist()
    content = joined.buffers()[2].to_pybytes()
    return digest_array([_md5(content[start:end]).digest() for start, end in pairwise(offsets)])


def raw_digest(raw: bytes) -> bytes:
    """Return the digest that assigns a quarantined record to a partition: the md5 of its raw bytes, 16 bytes."""
    return hashlib.md5(raw).digest()


def digest_array(digests: Sequence[bytes]) -> np.ndarray:
    """Convert n digests of 16 bytes to an array, (n, 16) uint8."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def digest_column(digests: np.ndarray) -> pa.Array:
    """Convert digests, (n, 16) uint8, to an Arrow array of binary(16)."""
    return pa.Array.from_buffers(pa.binary(16), len(digests), [None, pa.py_buffer(np.ascontiguousarray(digests))])


def halves(digests: pa.Array | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split n digests into their first and last 64 bits, each (n,) uint64, which sort like the bytes."""
    if not isinstance(digests, np.ndarray):
        start = digests.offset * 16
        digests = np.frombuffer(digests.buffers()[1], np.uint8)[start : start + len(digests) * 16]
    words = np.ascontiguousarray(digests).reshape(-1).view(">u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def hex_column(digests: pa.Array) -> pa.Array:
    """Convert digests of 16 bytes to strings of 32 hex digits."""
    rows = len(digests)
    raw = np.frombuffer(digests.buffers()[1], np.uint8)[digests.offset * 16 : (digests.offset + rows) * 16]
    offsets = np.arange(rows + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(_HEX_PAIRS[raw]))


_HEX_PAIRS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)


class Positions:
    """Map from a digest to the index of its parquet file among the requested ones, -1 if it is in none of them.

    This is the same partitioning as `Layout.parquet_of_uid`, for digests instead of hex digits. Two ranges never start
    at the same first 64 bits, because a layout has at most `MAX_SHARDS` shards.
    """

    def __init__(self, layout: Layout, partitions: Iterable[int]) -> None:
        starts = [
            layout.uid_range(ParquetNumber(number))[0].to_bytes(16, "big") for number in range(layout.parquet_files)
        ]
        self._high, self._low = halves(digest_array(starts))
        self._positions = np.full(layout.parquet_files, -1, np.int32)
        for position, parquet in enumerate(partitions):
            self._positions[parquet] = position

    def of(self, digests: np.ndarray) -> np.ndarray:
        """Return the positions of n digests, (n, 16) uint8, as (n,) int32."""
        high, low = halves(digests)
        found = np.searchsorted(self._high, high, side="right") - 1
        found -= (self._high[found] == high) & (low < self._low[found])
        return self._positions[found]


def rows_digest(table: pa.Table) -> str:
    """Hash column names, kinds and values, in order. Returns the first 32 hex digits of the sha256.

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
        for part in _encode_texts(column) if text else _encode_numbers(column, kind):
            digest.update(part)
    return digest.hexdigest()[:32]


def _encode_texts(column: pa.ChunkedArray) -> Iterable[bytes]:
    column = column.cast(pa.large_binary())
    yield pc.fill_null(pc.binary_length(column), -1).to_numpy().astype("<i8").tobytes()
    for chunk in pc.fill_null(column, b"").chunks:
        if len(chunk):
            offsets = np.frombuffer(chunk.buffers()[1], "<i8")[chunk.offset : chunk.offset + len(chunk) + 1]
            if offsets[-1] > offsets[0]:
                yield chunk.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes()


def _encode_numbers(column: pa.ChunkedArray, kind: str) -> Iterable[bytes]:
    yield column.is_null().to_numpy().astype("u1").tobytes()
    wide, stored = (pa.float64(), "<f8") if kind == "float" else (pa.int64(), "<i8")
    yield pc.fill_null(column.cast(wide), 0).to_numpy().astype(stored).tobytes()
