"""The bytes of a CSV file in blocks of bounded size. gzip is decoded up to the first damage."""

import zlib
from collections.abc import Iterator
from typing import IO

from laion_assets.tables.row_reasons import Reason
from laion_assets.tables.table_limits import TableLimits

BLOCK_BYTES = 4 << 20
"""Size of a block: more than twice the longest record."""
_READ_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31


class BrokenGzipError(Exception):
    """The rest of a gzip stream cannot be read. Raised after all bytes before the damage."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def read_blocks(file: IO[bytes], limits: TableLimits) -> Iterator[bytes]:
    """Yield the file's content in blocks of about `BLOCK_BYTES`. gzip is recognised by its first bytes, not by name.

    Raises BrokenGzipError after the readable part of a truncated or corrupt stream, and for a stream that expands
    beyond the limits. By RFC 1952, a stream has one or more members; zero bytes may follow the last one.
    """
    head = file.read(len(_GZIP_MAGIC))
    if head != _GZIP_MAGIC:
        head += file.read(BLOCK_BYTES - len(head))
        while head:
            yield head
            head = file.read(BLOCK_BYTES)
        return
    held: list[bytes] = []
    size = 0
    try:
        for piece in _gunzip(head, file, limits):
            held.append(piece)
            size += len(piece)
            if size >= BLOCK_BYTES:
                yield b"".join(held)
                held, size = [], 0
    except BrokenGzipError:
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
            raise BrokenGzipError(Reason.CORRUPT_GZIP) from None
        decoded += len(piece)
        if decoded > limits.allowed_bytes(stored):
            raise BrokenGzipError(Reason.EXPANSION_LIMIT)
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
            raise BrokenGzipError(Reason.TRUNCATED_GZIP)
