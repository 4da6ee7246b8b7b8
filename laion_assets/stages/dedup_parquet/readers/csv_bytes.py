"""The bytes of a text file in blocks of bounded size. gzip and Zstandard are decoded up to the first damage."""

import zlib
from collections.abc import Iterator
from typing import IO

from laion_assets.tables.row_reasons import Reason
from laion_assets.tables.table_limits import TableLimits

BLOCK_BYTES = 4 << 20
"""Size of a block: more than twice the longest record."""
_READ_BYTES = 1 << 20
_MAGIC_BYTES = 4
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"
"""Last three bytes of the magic number of a skippable frame, with which some parallel compressors start (RFC 8878)."""
_ZSTD_PIECE_BYTES = 16 << 10
"""Bytes decoded at once. pyarrow returns nothing of a piece that ends in a damage."""


class BrokenStreamError(Exception):
    """The rest of a compressed stream cannot be read. Raised after all bytes before the damage."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def read_blocks(file: IO[bytes], limits: TableLimits) -> Iterator[bytes]:
    """Yield the file's content in blocks of about `BLOCK_BYTES`.

    gzip and Zstandard are recognised by their first bytes, not by name. Raises BrokenStreamError after the readable
    part of a truncated or corrupt stream, and for a stream that expands beyond the limits. By RFC 1952, a gzip stream
    has one or more members; zero bytes may follow the last one. By RFC 8878, a Zstandard stream has one or more frames.
    """
    head = file.read(_MAGIC_BYTES)
    if head.startswith(_GZIP_MAGIC):
        pieces = _gunzip(head, file, limits)
    elif head == _ZSTD_MAGIC or (head[1:] == _ZSTD_SKIPPABLE_MAGIC and head[0] >> 4 == 5):
        pieces = _decode_zstd(head, file, limits)
    else:
        head += file.read(BLOCK_BYTES - len(head))
        while head:
            yield head
            head = file.read(BLOCK_BYTES)
        return
    held: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= BLOCK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except BrokenStreamError:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


def _gunzip(data: bytes, file: IO[bytes], limits: TableLimits) -> Iterator[bytes]:
    stream = zlib.decompressobj(_GZIP_WINDOW)
    stored, decoded = len(data), 0
    while True:
        try:
            piece = stream.decompress(data, _READ_BYTES)
        except zlib.error:
            raise BrokenStreamError(Reason.CORRUPT_GZIP) from None
        decoded += len(piece)
        if decoded > limits.allowed_bytes(stored):
            raise BrokenStreamError(Reason.EXPANSION_LIMIT)
        if piece:
            yield piece
        if stream.eof:
            data = stream.unused_data.lstrip(b"\0")
            while not data and (more := file.read(_READ_BYTES)):
                stored += len(more)
                data = more.lstrip(b"\0")
            if not data:
                return
            stream = zlib.decompressobj(_GZIP_WINDOW)
            continue
        data = stream.unconsumed_tail
        if not data:
            data = file.read(_READ_BYTES)
            stored += len(data)
        # At the end of the file, zlib may still hold output: continue until it returns none.
        if not data and not piece:
            raise BrokenStreamError(Reason.TRUNCATED_GZIP)


class _CountedInput:
    """The file object for pyarrow: the first bytes, then the rest of a file. `count` is the number of bytes read."""

    closed = False

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head, self._file = head, file
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes."""
        found, self._head = self._head or self._file.read(size), b""
        self.count += len(found)
        return found

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Do nothing: the caller closes the file."""


def _decode_zstd(head: bytes, file: IO[bytes], limits: TableLimits) -> Iterator[bytes]:
    import pyarrow as pa

    stored, decoded = _CountedInput(head, file), 0
    with pa.PythonFile(stored, mode="r") as source, pa.CompressedInputStream(source, "zstd") as stream:
        while True:
            try:
                piece = stream.read(_ZSTD_PIECE_BYTES)
            except OSError as error:
                is_truncated = "truncated" in str(error).lower()
                raise BrokenStreamError(Reason.TRUNCATED_ZSTD if is_truncated else Reason.CORRUPT_ZSTD) from None
            if not piece:
                return
            decoded += len(piece)
            if decoded > limits.allowed_bytes(stored.count):
                raise BrokenStreamError(Reason.EXPANSION_LIMIT)
            yield piece
