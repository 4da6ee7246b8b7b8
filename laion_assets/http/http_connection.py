"""HTTP/1.1 requests over a connected socket (RFC 9112), never longer than a clock allows and never larger.

Python's `http.client` bounds neither the time of a read (only of each piece of it) nor the number of informational
answers; here every `recv` is given what is left of the deadline, and every part has a limit in bytes.
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
from laion_assets.http.messages.framing import MAX_CHUNK_LINE_BYTES, Framing, chunk_size, framing_of, malformed_chunk
from laion_assets.http.messages.response_headers import ResponseHeaderReader, ResponseHeaders
from laion_assets.reasons import Reason, Rejection

_RECV_BYTES = 64 * 1024


@dataclass(frozen=True)
class Rate:
    """The least average of an answer, judged when `grace_s` have passed since its first byte; 0 asks for none."""

    bytes_per_s: int = 0
    grace_s: float = 0.0

    def too_slow(self, received: int, seconds: float) -> bool:
        """Whether so many bytes in so many seconds are too few."""
        return seconds > self.grace_s and received < self.bytes_per_s * seconds


class HttpConnection:
    """Requests and their answers on a connected socket, plain or TLS, one after the other. Not thread-safe.

    `received` counts the wire bytes of the answer since `begin`; `reusable` says whether another request may follow:
    only when the last answer was read to its framed end, nothing came behind it, and the server agrees.
    `before_close` is called with the socket of a connection that ends in peace after it `served` more than one request.
    """

    def __init__(self, sock: socket.socket, before_close: Callable[[socket.socket], None] | None = None) -> None:
        self._sock = sock
        self._before_close = before_close
        self._buffer = bytearray()
        self._ended = False
        self._timeout_s: float | None = None
        self.served = 0
        self.reusable = False

    def begin(self, clock: Clock, rate: Rate = Rate()) -> None:
        """Start another request, under its own clock."""
        self._clock = clock
        self._rate = rate
        self._persists = False
        self.served += 1
        self.reusable = False
        self.received = 0
        self.first_byte_at: float | None = None

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """End the connection."""
        if self.reusable and self.served > 1 and self._before_close is not None:
            with contextlib.suppress(OSError, ValueError):
                self._before_close(self._sock)
        with contextlib.suppress(OSError):
            self._sock.close()

    def send(self, request: bytes) -> None:
        """Send the request as a whole. Raises Rejection `deadline`, OSError."""
        self._set_timeout()
        try:
            self._sock.sendall(request)
        except TimeoutError as error:
            raise self._clock.timeout_rejection() from error

    def read_head(self) -> ResponseHeaders:
        """The final response's status and headers; informational responses before it are skipped.

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
        """The body, decoded where it is compressed with gzip or deflate, of at most `max_bytes` either way.

        A body of more than FREE_BYTES reserves all that it may grow to before it is read on. Raises Rejection:
        `too_large`, `short_body`, `bad_response`, `bad_encoding`, `deadline`, `local_failure` (no memory).
        """
        coding = content_coding(head)
        take = reservation.take if reservation is not None else _take_nothing
        if not coding:
            return self._raw_body(head, max_bytes, take)
        body = self._raw_body(head, max_bytes, lambda size: take(2 * max_bytes if size > FREE_BYTES else 0))
        return decompress(body, coding, max_bytes, take)

    def read_start(self, head: ResponseHeaders, max_bytes: int) -> bytes:
        """The body, or as much of it as comes in the first `max_bytes`; never more is read. Raises as `read_body`."""
        framing, length = framing_of(head)
        if not content_coding(head) and (
            framing is Framing.UNTIL_CLOSE or (framing is Framing.LENGTH and length > max_bytes)
        ):
            while len(self._buffer) < max_bytes and self._fill():
                pass
            return bytes(self._buffer[:max_bytes])
        return self.read_body(head, 4 * max_bytes)[:max_bytes]

    def skip_body_at_hand(self, head: ResponseHeaders) -> None:
        """Drop a body that nobody wants if it is here already as a whole; nothing is waited for."""
        with contextlib.suppress(Rejection):  # the framing of a body that nobody wants is nobody's business
            framing, length = framing_of(head)
            if framing in (Framing.NONE, Framing.LENGTH) and length <= len(self._buffer):
                del self._buffer[:length]
                self._at_end()

    def _at_end(self) -> None:
        self.reusable = self._persists and not self._ended and not self._buffer

    def _raw_body(self, head: ResponseHeaders, max_bytes: int, take: Callable[[int], None]) -> bytes:
        framing, length = framing_of(head)
        if framing is Framing.CHUNKED:
            return self._chunks(max_bytes, take)
        if framing is Framing.UNTIL_CLOSE:
            while self._fill():
                if len(self._buffer) > max_bytes:
                    raise too_large(max_bytes)
                if len(self._buffer) > FREE_BYTES:
                    take(max_bytes)
            return self._drain(len(self._buffer))
        if length > max_bytes:
            raise too_large(max_bytes)
        take(length)
        while len(self._buffer) < length:
            if not self._fill():
                raise Rejection(Reason.SHORT_BODY, f"the body ended before its announced {length} bytes")
        body = self._drain(length)
        self._at_end()
        return body

    def _drain(self, length: int) -> bytes:
        """The next `length` bytes of the buffer, which gives their memory back."""
        if length == len(self._buffer):
            body = bytes(self._buffer)
            self._buffer = bytearray()
            return body
        body = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return body

    def _chunks(self, max_bytes: int, take: Callable[[int], None]) -> bytes:
        body = bytearray()
        while True:
            size = chunk_size(self._line(MAX_CHUNK_LINE_BYTES))
            if size == 0:  # trailers are of no use to us, and some servers leave out even their end: no wait for it
                if self._buffer == b"\r\n":
                    self._buffer.clear()
                    self._at_end()
                return bytes(body)
            if len(body) + size > max_bytes:
                raise too_large(max_bytes)
            if len(body) + size > FREE_BYTES:
                take(max_bytes)
            while len(self._buffer) < size:  # moved over as it comes, so that a large chunk is not held twice
                size -= len(self._buffer)
                body += self._buffer
                self._buffer.clear()
                if not self._fill():
                    raise Rejection(Reason.SHORT_BODY, "the body ended inside a chunk")
            body += memoryview(self._buffer)[:size]
            del self._buffer[:size]
            if self._line(2):
                raise malformed_chunk()

    def _line(self, max_bytes: int) -> bytes:
        """The next line of the chunked framing, without its end."""
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
        """The clock's timeout for the socket; setting one is a system call, so an equal one is left as it is."""
        timeout_s = self._clock.start_wait()
        if timeout_s != self._timeout_s:
            self._sock.settimeout(timeout_s)
            self._timeout_s = timeout_s

    def _receive(self) -> bytes:
        """What comes next. A timeout of a machine that was too busy is no silence: it waits on, until the deadline."""
        while True:
            self._set_timeout()
            try:
                return self._sock.recv(_RECV_BYTES)
            except TimeoutError as error:
                rejection = self._clock.timeout_rejection()
                if rejection.reason is not Reason.LOCAL_FAILURE:
                    raise rejection from error
            except ssl.SSLError as error:
                raise Rejection(Reason.CONNECTION_RESET, "TLS failed inside the answer") from error

    def _fill(self) -> bool:
        """Receive once; False at the end of the stream."""
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


def _take_nothing(size: int) -> None:
    """No budget: the caller bounds its bodies otherwise."""
