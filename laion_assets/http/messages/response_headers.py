"""The head of an HTTP/1.1 response, taken out of what came over a connection: one reader for every client.

Hand-written because the clients differ in how they wait (threads, an event loop) and must agree in what they accept:
bare line feeds, obsolete folding and missing reason phrases are common, and h11 and llhttp refuse some of them.
"""

import re

from laion_assets.reasons import Reason, Rejection

MAX_HEAD_BYTES = 64 * 1024
"""Status line and headers together, informational responses (1xx) before them included."""
_PROTOCOL = b"HTTP/1."
_STATUS = re.compile(r"[1-9][0-9]{2}(?![0-9])")
_FOLD = re.compile(rb"\n[ \t]++")
"""Obsolete line folding (RFC 9112, 5.2)."""
_END = re.compile(rb"\n\r?\n")
_NOT_IN_A_VALUE = bytes.maketrans(b"\0\r", b"  ")
"""RFC 9110, 5.5: replaced by spaces."""


class ResponseHeaders:
    """Status and headers of a response; names in lower case, in their order, values as latin-1 text."""

    __slots__ = ("_values", "headers", "reason", "status", "version")

    def __init__(
        self, status: int, headers: tuple[tuple[str, str], ...], version: bytes = b"HTTP/1.1", reason: str = ""
    ) -> None:
        self.status = status
        self.headers = headers
        self.version = version
        self.reason = reason
        self._values: dict[str, list[str]] = {}
        for name, value in headers:
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """The values of every header of this name, which is in lower case."""
        return self._values.get(name, [])

    def get(self, name: str) -> str | None:
        """The value of the first header of this name."""
        values = self._values.get(name)
        return values[0] if values else None

    def tokens(self, name: str) -> list[str]:
        """The parts of a comma list in the headers of this name, in lower case, empty ones left out."""
        values = self._values.get(name)
        if values is None:
            return []
        return [token for value in values for part in value.split(",") if (token := part.strip().lower())]

    @property
    def persists(self) -> bool:
        """Whether the server lets the connection live on (RFC 9112, 9.3).

        Not where both Transfer-Encoding and Content-Length are given: what comes behind may be smuggled (6.1).
        """
        options = self.tokens("connection")
        if "close" in options or (self.version == b"HTTP/1.0" and "keep-alive" not in options):
            return False
        return not (self.all("transfer-encoding") and self.all("content-length"))


class ResponseHeaderReader:
    """Takes the final response head out of a growing buffer. All heads of one response share MAX_HEAD_BYTES."""

    def __init__(self) -> None:
        self._left = MAX_HEAD_BYTES
        self._scanned = 0

    def take(self, buffer: bytearray) -> ResponseHeaders | None:
        """Remove the head from the start of the buffer and return it; None if more bytes must come first.

        Informational responses (1xx) are removed and skipped. Raises Rejection: `bad_response`, `too_large`.
        """
        while True:
            if not _PROTOCOL.startswith(buffer[: len(_PROTOCOL)]):  # HTTP/0.9, or another protocol
                raise not_http()
            end = _END.search(buffer, max(self._scanned - 2, 0))
            size = end.end() if end is not None else len(buffer)
            if size > self._left:
                raise Rejection(Reason.TOO_LARGE, f"headers of more than {MAX_HEAD_BYTES} bytes")
            if end is None:
                self._scanned = len(buffer)
                return None
            head = parse_headers(bytes(memoryview(buffer)[:size]))
            del buffer[:size]
            self._left -= size
            self._scanned = 0
            if head.status >= 200:
                return head
            if head.status == 101:
                raise Rejection(Reason.BAD_RESPONSE, "switched to another protocol")


def parse_headers(raw: bytes) -> ResponseHeaders:
    """The head in these bytes, which end in an empty line. Raises Rejection `bad_response` for another status line."""
    raw = raw.replace(b"\r\n", b"\n")
    if b"\r" in raw or b"\0" in raw:
        raw = raw.translate(_NOT_IN_A_VALUE)
    if b"\n " in raw or b"\n\t" in raw:
        raw = _FOLD.sub(b" ", raw)
    first, *lines = raw.decode("latin-1").rstrip("\n").split("\n")
    version, _, rest = first.partition(" ")
    rest = rest.lstrip()
    if not version.startswith("HTTP/1.") or not _STATUS.match(rest):
        raise not_http()
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if colon and name:
            headers.append((name, value.strip()))
    return ResponseHeaders(int(rest[:3]), tuple(headers), version.encode("latin-1"), rest[3:].strip())


def not_http() -> Rejection:
    """The rejection of bytes that are not an HTTP/1 response."""
    return Rejection(Reason.BAD_RESPONSE, "the answer is not HTTP/1")
