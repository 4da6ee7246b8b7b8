"""Read the status line and headers of an HTTP/1.1 response from a buffer. Every client uses this one reader.

The reader is written by hand because the clients wait in different ways (threads, an event loop) and must accept the
same input. Bare line feeds, obsolete folding and missing reason phrases are common, and h11 and llhttp refuse some of
them.
"""

import re

from laion_assets.reasons import Reason, Rejection

MAX_HEAD_BYTES = 64 * 1024
"""Limit for the status line and headers together, including informational responses (1xx) before them."""
_PROTOCOL = b"HTTP/1."
_STATUS = re.compile(r"[1-9][0-9]{2}(?![0-9])")
_FOLD = re.compile(rb"\n[ \t]++")
"""Obsolete line folding (RFC 9112, 5.2)."""
_END = re.compile(rb"\n\r?\n")
_NOT_IN_A_VALUE = bytes.maketrans(b"\0\r", b"  ")
"""Characters that are replaced by spaces (RFC 9110, 5.5)."""


class ResponseHeaders:
    """Status and headers of a response. Names are in lower case and in their order, values are latin-1 text.

    `is_persistent` tells whether the server keeps the connection open (RFC 9112, 9.3). It is false where both
    Transfer-Encoding and Content-Length are present, because the bytes after the body may be smuggled (6.1).
    """

    __slots__ = ("_repeated", "_values", "headers", "is_persistent", "reason", "status", "version")

    def __init__(
        self, status: int, headers: tuple[tuple[str, str], ...], version: bytes = b"HTTP/1.1", reason: str = ""
    ) -> None:
        self.status = status
        self.headers = headers
        self.version = version
        self.reason = reason
        self._values = values = dict(headers)
        self._repeated = len(values) != len(headers)
        if self._repeated:  # `get` returns the first value of a name
            self._values = dict(reversed(headers))
        self.is_persistent = self._is_persistent()

    def all(self, name: str) -> list[str]:
        """Return the values of all headers with this lower-case name."""
        if self._repeated:
            return [value for each, value in self.headers if each == name]
        value = self._values.get(name)
        return [] if value is None else [value]

    def get(self, name: str) -> str | None:
        """Return the value of the first header with this lower-case name."""
        return self._values.get(name)

    def has_any(self, names: frozenset[str]) -> bool:
        """Return whether there is a header with one of these lower-case names."""
        return not names.isdisjoint(self._values)

    def tokens(self, name: str) -> list[str]:
        """Return the lower-case, non-empty elements of the comma-separated list in the headers with this name."""
        if name not in self._values:
            return []
        return [token for value in self.all(name) for part in value.split(",") if (token := part.strip().lower())]

    def _is_persistent(self) -> bool:
        options = self.tokens("connection")
        if "close" in options or (self.version == b"HTTP/1.0" and "keep-alive" not in options):
            return False
        return not ("transfer-encoding" in self._values and "content-length" in self._values)


class ResponseHeaderReader:
    """Reads the final response's status line and headers from a growing buffer, within MAX_HEAD_BYTES in all."""

    __slots__ = ("_remaining_bytes", "_scanned")

    def __init__(self) -> None:
        self._remaining_bytes = MAX_HEAD_BYTES
        self._scanned = 0

    def take(self, buffer: bytearray) -> ResponseHeaders | None:
        """Remove status line and headers from the start of the buffer; None until all their bytes are there.

        Informational responses (1xx) are removed and skipped. Raises Rejection: `bad_response`, `too_large`.
        """
        while True:
            if not (buffer.startswith(_PROTOCOL) or _PROTOCOL.startswith(buffer)):  # HTTP/0.9, or another protocol
                raise not_http()
            end = _END.search(buffer, max(self._scanned - 2, 0))
            size = end.end() if end is not None else len(buffer)
            if size > self._remaining_bytes:
                raise Rejection(Reason.TOO_LARGE, f"headers of more than {MAX_HEAD_BYTES} bytes")
            if end is None:
                self._scanned = len(buffer)
                return None
            if size == len(buffer):
                head = parse_headers(bytes(buffer))
                buffer.clear()
            else:
                head = parse_headers(bytes(buffer[:size]))
                del buffer[:size]
            self._remaining_bytes -= size
            self._scanned = 0
            if head.status >= 200:
                return head
            if head.status == 101:
                raise Rejection(Reason.BAD_RESPONSE, "switched to another protocol")


def parse_headers(raw: bytes) -> ResponseHeaders:
    """Parse a status line and headers, which end in an empty line. Raises Rejection `bad_response`."""
    raw = raw.replace(b"\r\n", b"\n")
    if b"\r" in raw or b"\0" in raw:
        raw = raw.translate(_NOT_IN_A_VALUE)
    if b"\n " in raw or b"\n\t" in raw:
        raw = _FOLD.sub(b" ", raw)
    first, *lines = raw.decode("latin-1").rstrip("\n").split("\n")
    version, _, status = first.partition(" ")
    status = status.lstrip()
    if not version.startswith("HTTP/1.") or not _STATUS.match(status):
        raise not_http()
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if colon and name:
            headers.append((name, value.strip()))
    return ResponseHeaders(int(status[:3]), tuple(headers), version.encode("latin-1"), status[3:].strip())


def not_http() -> Rejection:
    """Return the rejection of bytes that are not an HTTP/1 response."""
    return Rejection(Reason.BAD_RESPONSE, "the response is not HTTP/1")
