"""A connection of the asyncio client, and an HTTP/1.1 response that is read from it (RFC 9112)."""

import asyncio
import time

from laion_assets.http.messages.framing import (
    MAX_CHUNK_LINE_BYTES,
    Framing,
    chunk_size,
    determine_framing,
    malformed_chunk,
)
from laion_assets.http.messages.response_headers import MAX_HEAD_BYTES, ResponseHeaderReader, ResponseHeaders

READ_AHEAD_BYTES = 1 << 17
"""Bytes that a connection buffers before they are read."""
_RECV_BYTES = 1 << 16


class Connection:
    """A connection to a server. `waiting_since` is the start of the current wait; the client checks it for timeouts.

    Reading the headers, a chunk's line or the trailers counts as one wait, however slowly the bytes arrive. So a server
    that sends a byte now and then times out like one that sends nothing.
    """

    __slots__ = ("_buffer", "fresh", "reader", "timed_out", "waiting_since", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.waiting_since = 0.0
        self.timed_out = False
        self.fresh = True
        self._buffer = bytearray()

    @property
    def is_drained(self) -> bool:
        """Whether nothing was received after the last response."""
        return not self._buffer

    async def read_head(self) -> ResponseHeaders:
        """Read the final response's status and headers. Skips informational responses (1xx).

        Raises EOFError if the server closed before its end, TimeoutError, Rejection `bad_response` and `too_large`.
        """
        reader = ResponseHeaderReader()
        self.waiting_since = time.monotonic()
        try:
            while True:
                if self._buffer and (head := reader.take(self._buffer)) is not None:
                    return head
                piece = await self.reader.read(_RECV_BYTES)
                if not piece:
                    raise EOFError("the server closed the connection before the headers ended")
                self._buffer += piece
        finally:
            self.waiting_since = 0.0
            self._check_timeout()

    async def read(self, size: int) -> bytes:
        """Read up to `size` bytes, none at the end of the connection. Raises TimeoutError."""
        if self._buffer:
            piece = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
            return piece
        self.waiting_since = time.monotonic()
        try:
            return await self.reader.read(size)
        finally:
            self.waiting_since = 0.0
            self._check_timeout()

    async def read_line(self, max_bytes: int, until_empty: bool = False) -> bytes:
        """Read the next line without its line end. With `until_empty`, skip all lines up to an empty one.

        Raises EOFError, TimeoutError, Rejection `bad_response` for more than `max_bytes`.
        """
        self.waiting_since = time.monotonic()
        try:
            while True:
                line = await self._read_line(max_bytes)
                max_bytes -= len(line)
                if not until_empty or line in (b"\n", b"\r\n"):
                    return line.rstrip(b"\r\n")
        finally:
            self.waiting_since = 0.0

    def close(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()

    async def _read_line(self, max_bytes: int) -> bytes:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > max_bytes:
                raise malformed_chunk()
            await self._fill("in the chunked framing")
        if end + 1 > max_bytes:
            raise malformed_chunk()
        line = bytes(memoryview(self._buffer)[: end + 1])
        del self._buffer[: end + 1]
        return line

    async def _fill(self, where: str) -> None:
        try:
            piece = await self.reader.read(_RECV_BYTES)
        finally:
            self._check_timeout()
        if not piece:
            raise EOFError(f"the server closed the connection {where}")
        self._buffer += piece

    def _check_timeout(self) -> None:
        """Raise TimeoutError if the client closed the connection because of its timeout."""
        if self.timed_out:
            raise TimeoutError("read timeout: the server sent nothing")


class RateWindow:
    """The minimum average download rate, checked over windows of `window_s`; 0 bytes/s disables it."""

    __slots__ = ("_bytes", "_min_bytes_per_s", "_since", "_window_s")

    def __init__(self, min_bytes_per_s: int, window_s: float) -> None:
        self._min_bytes_per_s, self._window_s = min_bytes_per_s, window_s
        self._since, self._bytes = time.monotonic(), 0

    def count(self, received: int) -> None:
        """Count received bytes. Raises TimeoutError if the rate of the window that ends now is too low."""
        self._bytes += received
        elapsed = time.monotonic() - self._since
        if elapsed >= self._window_s:
            if self._bytes < self._min_bytes_per_s * elapsed:
                raise TimeoutError(f"only {self._bytes} bytes were received in {elapsed:.0f} s")
            self._since, self._bytes = time.monotonic(), 0


class Response:
    """A response: its `head` (status and headers), its final `url` and `origin`, and its body, which `read` returns.

    `length` is the Content-Length in bytes, -1 without one. `complete` tells whether the whole body was received.
    `conditional` tells whether the caller's validators were sent to this origin.
    """

    __slots__ = (
        "_connection",
        "_framing",
        "_rate",
        "_remaining",
        "complete",
        "conditional",
        "head",
        "length",
        "origin",
        "url",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, url: str, origin: str, conditional: bool, head: ResponseHeaders, rate: RateWindow
    ) -> None:
        self.url, self.origin, self.conditional, self.head = url, origin, conditional, head
        self._connection, self._rate = connection, rate
        self._framing, self.length = determine_framing(head)
        self._remaining = max(self.length, 0)
        self.complete = self.length == 0

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.head.status

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on the connection."""
        framed = self._framing is not Framing.UNTIL_CLOSE
        return self.complete and framed and self.head.is_persistent and self._connection.is_drained

    @property
    def has_short_remainder(self) -> bool:
        """Whether reading the rest is cheaper than opening another connection."""
        return not self.complete and self._framing is Framing.LENGTH and self._remaining <= 1 << 16

    async def read(self, size: int) -> bytes:
        """Read up to `size` bytes of the body; none at its end or if it was truncated (`complete` tells which).

        Raises TimeoutError (read timeout, or a rate below the minimum), EOFError, Rejection `bad_response`.
        """
        if self.complete:
            return b""
        if self._framing is Framing.CHUNKED:
            piece = await self._read_chunked(size)
        else:
            has_length = self._framing is Framing.LENGTH
            piece = await self._connection.read(min(size, self._remaining) if has_length else size)
            self._remaining -= len(piece)
            self.complete = self._remaining == 0 if has_length else not piece
        if piece:
            self._rate.count(len(piece))
        return piece

    async def _read_chunked(self, size: int) -> bytes:
        if not self._remaining:
            self._remaining = chunk_size(await self._connection.read_line(MAX_CHUNK_LINE_BYTES))
            if self._remaining == 0:
                await self._connection.read_line(MAX_HEAD_BYTES, until_empty=True)
                self.complete = True
                return b""
        piece = await self._connection.read(min(size, self._remaining))
        if not piece:
            raise EOFError("the connection ended inside a chunk")
        self._remaining -= len(piece)
        if self._remaining == 0 and await self._connection.read_line(MAX_CHUNK_LINE_BYTES):
            raise malformed_chunk()
        return piece


async def read_plain(response: Response, max_bytes: int) -> bytes:
    """Read the whole body and decode it if it is compressed. Limits it to `max_bytes` before and after decoding.

    Raises TimeoutError, EOFError (a truncated body), Rejection `too_large`, `bad_encoding`, `short_body`.
    """
    from laion_assets.http.messages.content_coding import StreamDecoder, content_coding, too_large

    coding = content_coding(response.head)
    decoder = StreamDecoder(coding) if coding else None
    body = bytearray()
    received = 0
    while piece := await response.read(1 << 18):
        received += len(piece)
        for plain in decoder.feed(piece) if decoder is not None else (piece,):
            body += plain
            if len(body) > max_bytes or received > max_bytes:
                raise too_large(max_bytes)
    if not response.complete:
        raise EOFError(f"only {received} of {response.length} bytes were received")
    if decoder is not None:
        for plain in decoder.end():
            body += plain
    if len(body) > max_bytes:
        raise too_large(max_bytes)
    return bytes(body)
