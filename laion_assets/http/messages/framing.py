"""Where the body of an HTTP/1.1 response ends (RFC 9112, 6), read alike by every client."""

from collections.abc import Sequence
from enum import Enum

from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.reasons import Reason, Rejection

MAX_CHUNK_LINE_BYTES = 4 * 1024
_MAX_DIGITS = 18
_NO_BODY = {204, 304}


class Framing(Enum):
    """How a body ends: `NONE` has none, `LENGTH` by its announced length, `CHUNKED`, or with the connection."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


def framing_of(head: ResponseHeaders) -> tuple[Framing, int]:
    """How the body ends, and its length in bytes where it is announced, else -1.

    `Transfer-Encoding: identity`, which older servers send, means none. Raises Rejection `bad_response` for another
    transfer encoding and for a malformed or contradictory Content-Length.
    """
    if head.status in _NO_BODY:
        return Framing.NONE, 0
    codings = [coding for coding in head.tokens("transfer-encoding") if coding != "identity"]
    if codings:
        if codings != ["chunked"]:
            raise Rejection(Reason.BAD_RESPONSE, "a transfer encoding that was not asked for")
        return Framing.CHUNKED, -1
    length = _content_length(head.all("content-length"))
    return (Framing.UNTIL_CLOSE, -1) if length is None else (Framing.LENGTH, length)


def chunk_size(line: bytes) -> int:
    """The size in a chunk's first line. Raises Rejection `bad_response`."""
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > _MAX_DIGITS or not all(sign in b"0123456789abcdefABCDEF" for sign in digits):
        raise malformed_chunk()
    return int(digits, 16)


def malformed_chunk() -> Rejection:
    """The rejection of a chunk that is not one."""
    return Rejection(Reason.BAD_RESPONSE, "a malformed chunk")


def content_range(head: ResponseHeaders) -> tuple[int, int, int] | None:
    """(first, last, size) of a 206 response's Content-Range in bytes, size -1 if unknown; None for anything else."""
    unit, _, value = (head.get("content-range") or "").strip().partition(" ")
    span, _, size = value.partition("/")
    first, _, last = span.partition("-")
    if unit.lower() != "bytes" or not (_is_number(first) and _is_number(last) and (size == "*" or _is_number(size))):
        return None
    start, end, whole = int(first), int(last), -1 if size == "*" else int(size)
    return (start, end, whole) if start <= end and (whole < 0 or end < whole) else None


def is_whole_range(head: ResponseHeaders) -> bool:
    """Whether a 206 response brings the whole file: some servers answer so to a request without Range."""
    span = content_range(head)
    return span is not None and span[0] == 0 and span[1] + 1 == span[2]


def _content_length(values: Sequence[str]) -> int | None:
    if len(values) == 1 and _is_number(values[0]):
        return int(values[0])
    lengths = {part.strip() for value in values for part in value.split(",")}
    if not lengths:
        return None
    length = lengths.pop()
    if lengths or not _is_number(length):
        raise Rejection(Reason.BAD_RESPONSE, "contradictory or malformed Content-Length")
    return int(length)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
