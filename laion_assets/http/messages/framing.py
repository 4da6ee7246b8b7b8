"""Determine where the body of an HTTP/1.1 response ends (RFC 9112, 6). Shared by all clients."""

from collections.abc import Sequence
from enum import Enum

from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.reasons import Reason, Rejection

MAX_CHUNK_LINE_BYTES = 4 * 1024
_MAX_DIGITS = 18
_NO_BODY = {204, 304}


class Framing(Enum):
    """How a body ends: there is none, at its Content-Length, by chunks, or when the connection closes."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


def determine_framing(head: ResponseHeaders) -> tuple[Framing, int]:
    """Return how the body ends, and its Content-Length in bytes, -1 if there is none.

    `Transfer-Encoding: identity` from older servers is ignored. Raises Rejection `bad_response` for another
    transfer encoding and for a malformed or contradictory Content-Length.
    """
    if head.status in _NO_BODY:
        return Framing.NONE, 0
    codings = [coding for coding in head.tokens("transfer-encoding") if coding != "identity"]
    if codings:
        if codings != ["chunked"]:
            raise Rejection(Reason.BAD_RESPONSE, "a transfer encoding that was not requested")
        return Framing.CHUNKED, -1
    length = _content_length(head.all("content-length"))
    return (Framing.UNTIL_CLOSE, -1) if length is None else (Framing.LENGTH, length)


def chunk_size(line: bytes) -> int:
    """Parse the size in a chunk's first line. Raises Rejection `bad_response`."""
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > _MAX_DIGITS or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        raise malformed_chunk()
    return int(digits, 16)


def malformed_chunk() -> Rejection:
    """Return the rejection of a malformed chunk."""
    return Rejection(Reason.BAD_RESPONSE, "a malformed chunk")


def content_range(head: ResponseHeaders) -> tuple[int, int, int] | None:
    """Return (first, last, size) of a 206 response's Content-Range in bytes, size -1 if unknown; None if invalid."""
    unit, _, value = (head.get("content-range") or "").strip().partition(" ")
    span, _, size = value.partition("/")
    first, _, last = span.partition("-")
    if unit.lower() != "bytes" or not (_is_number(first) and _is_number(last) and (size == "*" or _is_number(size))):
        return None
    start, end, whole = int(first), int(last), -1 if size == "*" else int(size)
    return (start, end, whole) if start <= end and (whole < 0 or end < whole) else None


def is_whole_range(head: ResponseHeaders) -> bool:
    """Return whether a 206 response has the whole file. Some servers send one for a request without Range."""
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
