"""HTTP/1.1 requests over a connected socket (RFC 9112), limited in time and size.

Python's `http.client` limits neither the total time of a read nor the number of informational responses. Here the
timeout of every `recv` is the time left until the deadline, and every part of a response has a limit in bytes.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from laion_assets.http.clock import Clock, too_slow
from laion_assets.http.memory_budget import FREE_BYTES, Reservation
from laion_assets.http.messages.content_coding import content_coding, decompress, too_large
from laion_assets.http.messages.framing import (
    MAX_CHUNK_LINE_BYTES,
    Framing,
    chunk_size,
    determine_framing,
    malformed_chunk,
)
from laion_assets.http.messages.response_headers import ResponseHeaderReader, ResponseHeaders
from laion_assets.reasons import Reason, Rejection

_RECV_BYTES = 64 * 1024


@dataclass(frozen=True)
class Rate:
    """The minimum average download rate, checked from `grace_s` after a response's first byte on; 0 disables it."""

    bytes_per_s: int = 0
    grace_s: float = 0.0

    def too_slow(self, received: int, seconds: float) -> bool:
        """Return whether this many bytes in this many seconds are below the minimum."""
        return seconds > self.grace_s and received < self.bytes_per_s * seconds


class HttpConnection:
    """Sends requests and reads responses on a connected socket, plain or TLS, one at a time. Not thread-safe.

    `received` counts the bytes received since `start_request`. `reusable` tells whether another request may follow: the
    last response was read to its end, nothing came after it, and the server keeps the connection open.
    `before_close` is called with the socket of a reusable connection that served more than one request.
    """

    def __init__(self, sock: socket.socket, before_close: Callable[[socket.socket], None] | None = None) -> None:
        self._sock = sock
        self._before_close = before_close
        self._buffer = bytearray()
        self._ended = False
        self._timeout_s: float | None = None
        self.served = 0
        self.reusable = False

    def start_request(self, clock: Clock, rate: Rate = Rate()) -> None:
        """Start another request with its own clock."""
        self._clock = clock
        self._rate = rate
        self._persists = False
        self.served += 1
        self.reusable = False
        self.received = 0
        self.first_byte_at: float | None = None

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection."""
        if self.reusable and self.served > 1 and self._before_close is not None:
            with contextlib.suppress(OSError, ValueError):
                self._before_close(self._sock)
        with contextlib.suppress(OSError):
            self._sock.close()

    def send(self, request: bytes) -> None:
        """Send the whole request. Raises Rejection `deadline`, OSError."""
        self._set_timeout()
        try:
            self._sock.sendall(request)
        except TimeoutError as error:
            raise self._clock.timeout_rejection() from error

    def read_head(self) -> ResponseHeaders:
        """Read the status and headers of the final response. Skips informational responses before it.

        Raises Rejection: `bad_response`, `too_large` (more than MAX_HEAD_BYTES), `deadline`, `connection_reset`.
        """
        reader = ResponseHeaderReader()
        while not self._buffer and self._fill():
            pass
        while (head := reader.take(self._buffer)) is None:
            if not self._fill():
                raise Rejection(Reason.CONNECTION_RESET, "the connection was closed before the headers ended")
        self._persists = head.is_persistent
        return head

    def read_body(self, head: ResponseHeaders, max_bytes: int, reservation: Reservation | None = None) -> bytes:
        """Read the body and undo gzip or deflate. Limits it to `max_bytes` before and after decoding.

        A body larger than FREE_BYTES reserves its maximum size before more of it is read. Raises Rejection:
        `too_large`, `short_body`, `bad_response`, `bad_encoding`, `deadline`, `local_failure` (no memory).
        """
        coding = content_coding(head)
        reserve = reservation.reserve if reservation is not None else _reserve_nothing
        if not coding:
            return self._read_raw_body(head, max_bytes, reserve)
        body = self._read_raw_body(head, max_bytes, lambda size: reserve(2 * max_bytes if size > FREE_BYTES else 0))
        return decompress(body, coding, max_bytes, reserve)

    def read_prefix(self, head: ResponseHeaders, max_bytes: int) -> bytes:
        """Read at most the first `max_bytes` of the body. Raises as `read_body`."""
        framing, length = determine_framing(head)
        if not content_coding(head) and (
            framing is Framing.UNTIL_CLOSE or (framing is Framing.LENGTH and length > max_bytes)
        ):
            while len(self._buffer) < max_bytes and self._fill():
                pass
            return bytes(self._buffer[:max_bytes])
        return self.read_body(head, 4 * max_bytes)[:max_bytes]

    def skip_buffered_body(self, head: ResponseHeaders) -> None:
        """Discard an unneeded body if all of it has been received. Never waits."""
        with contextlib.suppress(Rejection):  # malformed framing only means that the connection is not reused
            framing, length = determine_framing(head)
            if framing in (Framing.NONE, Framing.LENGTH) and length <= len(self._buffer):
                del self._buffer[:length]
                self._finish_response()

    def _finish_response(self) -> None:
        self.reusable = self._persists and not self._ended and not self._buffer

    def _read_raw_body(self, head: ResponseHeaders, max_bytes: int, reserve: Callable[[int], None]) -> bytes:
        framing, length = determine_framing(head)
        if framing is Framing.CHUNKED:
            return self._read_chunks(max_bytes, reserve)
        if framing is Framing.UNTIL_CLOSE:
            while self._fill():
                if len(self._buffer) > max_bytes:
                    raise too_large(max_bytes)
                if len(self._buffer) > FREE_BYTES:
                    reserve(max_bytes)
            return self._take(len(self._buffer))
        if length > max_bytes:
            raise too_large(max_bytes)
        reserve(length)
        while len(self._buffer) < length:
            if not self._fill():
                raise Rejection(Reason.SHORT_BODY, f"the body ended before {length} bytes (Content-Length)")
        body = self._take(length)
        self._finish_response()
        return body

    def _take(self, length: int) -> bytes:
        """Remove and return the first `length` bytes of the buffer, and free their memory."""
        if length == len(self._buffer):
            body = bytes(self._buffer)
            self._buffer = bytearray()
            return body
        body = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return body

    def _read_chunks(self, max_bytes: int, reserve: Callable[[int], None]) -> bytes:
        body = bytearray()
        while True:
            size = chunk_size(self._read_line(MAX_CHUNK_LINE_BYTES))
            if size == 0:  # do not wait for trailers: they are not used, and some servers omit even their end
                if self._buffer == b"\r\n":
                    self._buffer.clear()
                    self._finish_response()
                return bytes(body)
            if len(body) + size > max_bytes:
                raise too_large(max_bytes)
            if len(body) + size > FREE_BYTES:
                reserve(max_bytes)
            while len(self._buffer) < size:  # move the bytes as they arrive, so that a chunk is not in memory twice
                size -= len(self._buffer)
                body += self._buffer
                self._buffer.clear()
                if not self._fill():
                    raise Rejection(Reason.SHORT_BODY, "the body ended inside a chunk")
            body += memoryview(self._buffer)[:size]
            del self._buffer[:size]
            if self._read_line(2):
                raise malformed_chunk()

    def _read_line(self, max_bytes: int) -> bytes:
        """Read the next line of the chunked framing, without its line end."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > max_bytes:
                raise malformed_chunk()
            if not self._fill():
                raise Rejection(Reason.SHORT_BODY, "the connection was closed in a chunk")
        if end + 1 > max_bytes:
            raise malformed_chunk()
        line = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    def _set_timeout(self) -> None:
        """Set the socket's timeout from the clock. Skips an equal one, because setting it is a system call."""
        timeout_s = self._clock.start_wait()
        if timeout_s != self._timeout_s:
            self._sock.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def _receive(self) -> bytes:
        """Receive once. After a timeout on a machine that was too busy, wait again, until the deadline."""
        while True:
            self._set_timeout()
            try:
                return self._sock.recv(_RECV_BYTES)
            except TimeoutError as error:
                rejection = self._clock.timeout_rejection()
                if rejection.reason is not Reason.LOCAL_FAILURE:
                    raise rejection from error
            except ssl.SSLError as error:
                raise Rejection(Reason.CONNECTION_RESET, "TLS failed inside the response") from error

    def _fill(self) -> bool:
        """Receive once into the buffer. Return False at the end of the stream."""
        if self._ended:
            return False
        piece = self._receive()
        if not piece:
            self._ended = True
            return False
        self.received += len(piece)
        self._buffer += piece
        now, lost_s = time.monotonic(), self._clock.busy.lost_s
        if self.first_byte_at is None:
            self.first_byte_at, self._lost_before_s = now, lost_s
        elif self._rate.too_slow(self.received, now - self.first_byte_at - (lost_s - self._lost_before_s)):
            raise too_slow()
        return True


def _reserve_nothing(size: int) -> None:
    """Reserve nothing: the caller limits its bodies in another way."""
