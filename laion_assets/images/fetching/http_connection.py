"""One HTTP/1.1 request over a connected socket (RFC 9112), never longer than its clock allows and never larger.

Python's `http.client` bounds neither the time of a read (only of each piece of it) nor the number of informational
answers; here every `recv` is given what is left of the deadline, and every part has a limit in bytes.
"""

import socket
import ssl
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from laion_assets.images.reasons import Reason, Rejection

MAX_HEAD_BYTES = 64 * 1024
"""Status line and headers together, informational answers (1xx) included."""
MAX_CHUNK_LINE_BYTES = 4 * 1024
_RECV_BYTES = 64 * 1024
_NO_BODY = {204, 304}


@dataclass(frozen=True)
class Clock:
    """When a URL's time is over, on the monotonic clock, and the longest silence allowed before that."""

    ends: float
    silence_s: float
    deadline_s: float

    @classmethod
    def start(cls, deadline_s: float, silence_s: float) -> "Clock":
        """A clock that starts now."""
        return cls(time.monotonic() + deadline_s, silence_s, deadline_s)

    def left(self) -> float:
        """Seconds until the deadline. Raises Rejection `deadline` when there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise self.expired()
        return left

    def wait(self) -> float:
        """The timeout for the next operation on a socket. Raises Rejection `deadline`."""
        return min(self.left(), self.silence_s)

    def expired(self) -> Rejection:
        """The rejection of a URL that took too long."""
        return Rejection(Reason.DEADLINE, f"no complete answer within {self.deadline_s:g} s")

    def timed_out(self) -> Rejection:
        """The rejection after a socket's timeout: the deadline, or too long a silence before it."""
        if time.monotonic() >= self.ends:
            return self.expired()
        return Rejection(Reason.DEADLINE, f"silence for {self.silence_s:g} s")


@dataclass(frozen=True)
class Head:
    """Status and headers of an answer; names in lower case, in their order, values as latin-1 text."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """The values of every header of this name."""
        return [value for key, value in self.headers if key == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the first header of this name."""
        return next(iter(self.all(name)), None)


class HttpConnection:
    """A request and its answer on a connected socket, plain or TLS. Not thread-safe. `received` counts wire bytes."""

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock
        self._buffer = bytearray()
        self._ended = False
        self.received = 0

    def send(self, request: bytes) -> None:
        """Send the request as a whole. Raises Rejection `deadline`, OSError."""
        self._sock.settimeout(self._clock.wait())
        try:
            self._sock.sendall(request)
        except TimeoutError as error:
            raise self._clock.timed_out() from error

    def read_head(self) -> Head:
        """The final answer's status and headers; informational answers before it are skipped.

        Raises Rejection: `bad_response`, `too_large` (more than MAX_HEAD_BYTES), `deadline`, `connection_reset`.
        """
        budget = [MAX_HEAD_BYTES]
        while True:
            status = _status_of(self._line(budget))
            headers = self._headers(budget)
            if status >= 200:
                return Head(status, headers)
            if status == 101:
                raise Rejection(Reason.BAD_RESPONSE, "switched to another protocol")

    def read_body(self, head: Head, max_bytes: int) -> bytes:
        """The body, decoded where it is compressed with gzip or deflate, of at most `max_bytes` either way.

        Raises Rejection: `too_large`, `short_body`, `bad_response`, `bad_encoding`, `deadline`.
        """
        if head.status in _NO_BODY:
            return b""
        encodings = [part.strip().lower() for value in head.all("content-encoding") for part in value.split(",")]
        encodings = [encoding for encoding in encodings if encoding not in ("", "identity")]
        if len(encodings) > 1 or not {*encodings} <= {"gzip", "x-gzip", "deflate"}:
            raise Rejection(Reason.BAD_ENCODING, "a content encoding that was not asked for")
        body = self._raw_body(head, max_bytes)
        return _decompress(body, encodings[0], max_bytes) if encodings else body

    def _raw_body(self, head: Head, max_bytes: int) -> bytes:
        codings = [part.strip().lower() for value in head.all("transfer-encoding") for part in value.split(",")]
        if codings:
            if codings != ["chunked"]:
                raise Rejection(Reason.BAD_RESPONSE, "a transfer encoding that was not asked for")
            return self._chunks(max_bytes)
        length = _content_length(head.all("content-length"))
        if length is None:
            while self._fill():
                if len(self._buffer) > max_bytes:
                    raise too_large(max_bytes)
            return bytes(self._buffer)
        if length > max_bytes:
            raise too_large(max_bytes)
        while len(self._buffer) < length:
            if not self._fill():
                raise Rejection(Reason.SHORT_BODY, f"the body ended before its announced {length} bytes")
        return bytes(memoryview(self._buffer)[:length])

    def _chunks(self, max_bytes: int) -> bytes:
        body = bytearray()
        while True:
            line = self._line([MAX_CHUNK_LINE_BYTES], Reason.SHORT_BODY).partition(b";")[0].strip()
            try:
                if not line or not all(sign in b"0123456789abcdefABCDEF" for sign in line):
                    raise ValueError(line)
                size = int(line, 16)
            except ValueError as error:
                raise Rejection(Reason.BAD_RESPONSE, "a malformed chunk size") from error
            if size == 0:  # trailers are of no use to us, and some servers leave out even their end
                return bytes(body)
            if len(body) + size > max_bytes:
                raise too_large(max_bytes)
            while len(self._buffer) < size:
                if not self._fill():
                    raise Rejection(Reason.SHORT_BODY, "the body ended inside a chunk")
            body += memoryview(self._buffer)[:size]
            del self._buffer[:size]
            if self._line([2], Reason.SHORT_BODY):
                raise Rejection(Reason.BAD_RESPONSE, "a malformed chunk")

    def _headers(self, budget: list[int]) -> tuple[tuple[str, str], ...]:
        headers: list[tuple[str, str]] = []
        while line := self._line(budget):
            text = line.decode("latin-1")
            if text[0] in " \t" and headers:  # obsolete folding, RFC 9112, 5.2
                headers[-1] = (headers[-1][0], f"{headers[-1][1]} {text.strip()}")
                continue
            name, colon, value = text.partition(":")
            if colon and name.strip():
                headers.append((name.strip().lower(), value.strip()))
        return tuple(headers)

    def _line(self, budget: list[int], ended: Reason = Reason.CONNECTION_RESET) -> bytes:
        """The next line without its end; its bytes are taken from `budget[0]`."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > budget[0]:
                break
            if not self._fill():
                where = "in a chunk" if ended is Reason.SHORT_BODY else "before the headers ended"
                raise Rejection(ended, f"the connection was closed {where}")
        if end < 0 or end + 1 > budget[0]:
            if ended is Reason.SHORT_BODY:
                raise Rejection(Reason.BAD_RESPONSE, "a malformed chunk")
            raise Rejection(Reason.TOO_LARGE, f"headers of more than {MAX_HEAD_BYTES} bytes")
        budget[0] -= end + 1
        line = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    def _fill(self) -> bool:
        """Receive once; False at the end of the stream."""
        if self._ended:
            return False
        self._sock.settimeout(self._clock.wait())
        try:
            piece = self._sock.recv(_RECV_BYTES)
        except TimeoutError as error:
            raise self._clock.timed_out() from error
        except ssl.SSLError as error:
            raise Rejection(Reason.CONNECTION_RESET, "TLS failed inside the answer") from error
        self._ended = not piece
        self.received += len(piece)
        self._buffer += piece
        return bool(piece)


def too_large(max_bytes: int) -> Rejection:
    """The rejection of a body over the cap."""
    return Rejection(Reason.TOO_LARGE, f"the body is larger than {max_bytes} bytes")


def _status_of(line: bytes) -> int:
    version, _, rest = line.partition(b" ")
    code = rest.lstrip()[:3]
    if not version.startswith(b"HTTP/1.") or not code.isdigit() or len(code) != 3 or code[0] == 48:
        raise Rejection(Reason.BAD_RESPONSE, "the answer is not HTTP/1")
    return int(code)


def _content_length(values: Sequence[str]) -> int | None:
    lengths = {part.strip() for value in values for part in value.split(",")}
    if not lengths:
        return None
    length = lengths.pop()
    if lengths or not length.isascii() or not length.isdigit() or len(length) > 18:
        raise Rejection(Reason.BAD_RESPONSE, "contradictory or malformed Content-Length")
    return int(length)


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    windows = (zlib.MAX_WBITS, -zlib.MAX_WBITS) if encoding == "deflate" else (zlib.MAX_WBITS | 16,)
    for window in windows:
        inflater = zlib.decompressobj(window)
        try:
            plain = inflater.decompress(body, max_bytes + 1)
        except zlib.error:
            continue
        if len(plain) > max_bytes:
            raise too_large(max_bytes)
        if not inflater.eof:
            raise Rejection(Reason.SHORT_BODY, f"the {encoding} stream is cut short")
        return plain
    raise Rejection(Reason.BAD_ENCODING, f"the body is not {encoding}")
