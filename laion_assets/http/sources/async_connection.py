"""A connection of the event-loop client, and one HTTP/1.1 response as it comes over it (RFC 9112)."""

import asyncio
import time

from laion_assets.http.messages.framing import (
    MAX_CHUNK_LINE_BYTES,
    Framing,
    chunk_size,
    framing_of,
    malformed_chunk,
)
from laion_assets.http.messages.response_headers import MAX_HEAD_BYTES, ResponseHeaderReader, ResponseHeaders
from laion_assets.reasons import Reason, Rejection

READ_AHEAD_BYTES = 1 << 17
"""What a connection buffers before it is read."""
_RECV_BYTES = 1 << 16


class Connection:
    """A connection to a server; `waiting_since` is when it began to wait, for the watch over silence.

    A head, a chunk's line and the trailers each count as one wait however slowly their bytes come: a server that sends
    one byte now and then is as silent as one that sends none.
    """

    __slots__ = ("_buffer", "fresh", "reader", "silent", "waiting_since", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.waiting_since = 0.0
        self.silent = False
        self.fresh = True
        self._buffer = bytearray()

    @property
    def is_drained(self) -> bool:
        """Whether nothing came behind the last response."""
        return not self._buffer

    async def head(self) -> ResponseHeaders:
        """The final response's head; 1xx are skipped.

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
            self._check_silence()

    async def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end of the connection. Raises TimeoutError."""
        if self._buffer:
            piece = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
            return piece
        self.waiting_since = time.monotonic()
        try:
            return await self.reader.read(size)
        finally:
            self.waiting_since = 0.0
            self._check_silence()

    async def lines(self, max_bytes: int, until_empty: bool = False) -> bytes:
        """The next line without its end; with `until_empty` all lines up to an empty one, of which none is returned.

        Raises EOFError, TimeoutError, Rejection `bad_response` for more than `max_bytes`.
        """
        self.waiting_since = time.monotonic()
        try:
            while True:
                line = await self._line(max_bytes)
                max_bytes -= len(line)
                if not until_empty or line in (b"\n", b"\r\n"):
                    return line.rstrip(b"\r\n")
        finally:
            self.waiting_since = 0.0

    def close(self) -> None:
        """Close without a wait."""
        self.writer.transport.abort()

    async def _line(self, max_bytes: int) -> bytes:
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
            self._check_silence()
        if not piece:
            raise EOFError(f"the server closed the connection {where}")
        self._buffer += piece

    def _check_silence(self) -> None:
        """Raises TimeoutError if the watch ended the connection."""
        if self.silent:
            raise TimeoutError("the server fell silent")


class RateWindow:
    """The minimum average download rate, judged over windows of so many seconds; 0 bytes/s asks for none."""

    __slots__ = ("_bytes", "_min_bytes_per_s", "_since", "_window_s")

    def __init__(self, min_bytes_per_s: int, window_s: float) -> None:
        self._min_bytes_per_s, self._window_s = min_bytes_per_s, window_s
        self._since, self._bytes = time.monotonic(), 0

    def count(self, received: int) -> None:
        """Count bytes. Raises TimeoutError if too few came in the window that ends now."""
        self._bytes += received
        elapsed = time.monotonic() - self._since
        if elapsed >= self._window_s:
            if self._bytes < self._min_bytes_per_s * elapsed:
                raise TimeoutError(f"only {self._bytes} bytes came in {elapsed:.0f} s")
            self._since, self._bytes = time.monotonic(), 0


class Response:
    """A response: its `head`, the `url` and `origin` that gave it, and its body by `read`.

    `length` is the body's size in bytes as announced, -1 if it is not. `complete` says that the body came whole.
    `conditional` says whether the caller's validators were sent to the origin that answered.
    """

    __slots__ = (
        "_connection", "_framing", "_left", "_rate", "complete", "conditional", "head", "length", "origin", "url",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, url: str, origin: str, conditional: bool, head: ResponseHeaders, rate: RateWindow
    ) -> None:
        self.url, self.origin, self.conditional, self.head = url, origin, conditional, head
        self._connection, self._rate = connection, rate
        self._framing, self.length = framing_of(head)
        self._left = max(self.length, 0)
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
    def rest_is_short(self) -> bool:
        """Whether reading the rest is cheaper than another connection."""
        return not self.complete and self._framing is Framing.LENGTH and self._left <= 1 << 16

    async def read(self, size: int) -> bytes:
        """Up to `size` bytes of the body; none at its end, and none where it was truncated (`complete` tells which).

        Raises TimeoutError (silence, or a rate below the minimum), EOFError, Rejection `bad_response`.
        """
        if self.complete:
            return b""
        if self._framing is Framing.CHUNKED:
            piece = await self._read_chunked(size)
        else:
            has_length = self._framing is Framing.LENGTH
            piece = await self._connection.read(min(size, self._left) if has_length else size)
            self._left -= len(piece)
            self.complete = self._left == 0 if has_length else not piece
        if piece:
            self._rate.count(len(piece))
        return piece

    async def _read_chunked(self, size: int) -> bytes:
        if not self._left:
            self._left = chunk_size(await self._connection.lines(MAX_CHUNK_LINE_BYTES))
            if self._left == 0:
                await self._connection.lines(MAX_HEAD_BYTES, until_empty=True)
                self.complete = True
                return b""
        piece = await self._connection.read(min(size, self._left))
        if not piece:
            raise EOFError("the connection ended inside a chunk")
        self._left -= len(piece)
        if self._left == 0 and await self._connection.lines(MAX_CHUNK_LINE_BYTES):
            raise malformed_chunk()
        return piece


async def read_plain(response: Response, max_bytes: int) -> bytes:
    """The whole body, decoded where it is compressed, of at most `max_bytes` either way.

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
        raise EOFError(f"{received} of {response.length} bytes came")
    if decoder is not None:
        for plain in decoder.end():
            body += plain
    if len(body) > max_bytes:
        raise too_large(max_bytes)
    return bytes(body)


def unexpected(response: Response, what: str = "") -> Rejection:
    """The rejection of a status that brings nothing to read."""
    named = f"HTTP {response.status} {response.head.reason[:80]}".rstrip()
    return Rejection(Reason.of_http_status(response.status), f"{named}{what}")
