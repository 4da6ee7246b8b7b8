"""One HTTP/1.1 answer as it comes over a connection (RFC 9112): its head, then its body in pieces."""

import asyncio
import time
from collections.abc import Mapping

MAX_HEAD_BYTES = 1 << 17
"""Also what a connection reads ahead; the head of an answer is a few hundred bytes."""
_NO_BODY = (204, 304)


class Connection:
    """A connection to a server; `waiting_since` is when it began to wait for bytes, for the watch over silence."""

    __slots__ = ("fresh", "reader", "silent", "waiting_since", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.waiting_since = 0.0
        self.silent = False
        self.fresh = True

    async def head(self) -> tuple[int, str, dict[str, str], bool]:
        """Status, reason, headers by lower-case name, and whether HTTP/1.1 keeps the connection; 1xx are skipped.

        Raises EOFError if the server closed before an answer, ConnectionError for what is no HTTP.
        """
        while True:
            self.waiting_since = time.monotonic()
            try:
                raw = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError as error:
                raise ConnectionError("the head of the answer is too long") from error
            finally:
                self.waiting_since = 0.0
                self.check_silence()
            first, *lines = raw.decode("latin-1").split("\r\n")
            version, _, rest = first.partition(" ")
            status, _, reason = rest.partition(" ")
            if not version.startswith("HTTP/1.") or not (status.isdigit() and len(status) == 3):
                raise ConnectionError(f"no HTTP/1.1 answer: {first[:80]!r}")
            headers: dict[str, str] = {}
            for line in lines:
                name, colon, value = line.partition(":")
                if colon:
                    name, value = name.lower(), value.strip()
                    headers[name] = f"{headers[name]}, {value}" if name in headers else value
            if int(status) >= 200:
                kept = version != "HTTP/1.0" and "close" not in headers.get("connection", "").lower()
                return int(status), reason, headers, kept

    async def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end of the connection."""
        self.waiting_since = time.monotonic()
        try:
            return await self.reader.read(size)
        finally:
            self.waiting_since = 0.0
            self.check_silence()

    def check_silence(self) -> None:
        """Raises TimeoutError if the watch ended the connection."""
        if self.silent:
            raise TimeoutError("the server fell silent")

    def close(self) -> None:
        """Close without a wait."""
        self.writer.transport.abort()


class Answer:
    """An answer: `status`, `reason`, `headers` by lower-case name, the `url` that gave it, and its body by `read`.

    `length` is the body's size in bytes as announced, None if it is not. `complete` says that the body came whole.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_kept",
        "_left",
        "complete",
        "headers",
        "length",
        "reason",
        "status",
        "url",
    )

    def __init__(
        self, connection: Connection, url: str, status: int, reason: str, headers: Mapping[str, str], kept: bool
    ) -> None:
        self.url, self.status, self.reason, self.headers = url, status, reason, headers
        self._connection, self._kept = connection, kept
        self._chunked = headers.get("transfer-encoding", "").lower().endswith("chunked")
        announced = headers.get("content-length")
        if announced is not None and not self._chunked and not (announced.isascii() and announced.isdigit()):
            raise ConnectionError(f"Content-Length is {announced[:40]!r}")
        self.length = None if announced is None or self._chunked else int(announced)
        self._left = 0 if status in _NO_BODY or self._chunked else self.length
        self.complete = status in _NO_BODY or (self._left == 0 and not self._chunked)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.complete and self._kept and (self._chunked or self._left == 0)

    @property
    def rest_is_short(self) -> bool:
        """Whether reading the rest is cheaper than another connection."""
        return not self.complete and not self._chunked and self._left is not None and self._left <= 1 << 16

    async def read(self, size: int) -> bytes:
        """Up to `size` bytes of the body; none at its end, and none where it was cut (`complete` tells them apart).

        Raises TimeoutError, ConnectionError (chunks that are none).
        """
        if self.complete:
            return b""
        if self._chunked:
            return await self._read_chunked(size)
        piece = await self._connection.read(size if self._left is None else min(size, self._left))
        if self._left is None:
            self.complete = not piece
        else:
            self._left -= len(piece)
            self.complete = self._left == 0
        return piece

    async def _read_chunked(self, size: int) -> bytes:
        if not self._left:
            line = await self._line()
            try:
                self._left = int(line.partition(b";")[0].strip(), 16)
            except ValueError as error:
                raise ConnectionError(f"a chunk's size is {line[:40]!r}") from error
            if self._left < 0:
                raise ConnectionError(f"a chunk's size is {line[:40]!r}")
            if self._left == 0:
                while await self._line():
                    pass
                self.complete = True
                return b""
        piece = await self._connection.read(min(size, self._left))
        if not piece:
            raise EOFError("the connection ended inside a chunk")
        self._left -= len(piece)
        if self._left == 0 and await self._line():
            raise ConnectionError("a chunk is longer than announced")
        return piece

    async def _line(self) -> bytes:
        connection = self._connection
        connection.waiting_since = time.monotonic()
        try:
            return (await connection.reader.readuntil(b"\r\n"))[:-2]
        finally:
            connection.waiting_since = 0.0
            connection.check_silence()
