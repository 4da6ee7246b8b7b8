"""Validate ETag and Last-Modified. A server's values are sent back to it, so only well-formed ones are kept."""

import re

from laion_assets.http.messages.dates import parse_date
from laion_assets.http.messages.response_headers import ResponseHeaders

MAX_ETAG_CHARS = 1_000
_ETAG = re.compile(r'(?:W/)?"[\x20\x21\x23-\x7e\x80-\xff]*"\Z|[\x21\x23-\x7e]+\Z')
"""An entity tag (RFC 9110, 8.8.3), or one without quotes as some servers send. Has no control characters."""
_DATE = re.compile(r"[A-Z][a-z]{2}, [0-3][0-9] [A-Z][a-z]{2} [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT\Z")
"""The common form of a date. It is sent back without parsing it."""


def valid_etag(value: object) -> str:
    """Return the entity tag if it is well-formed, else an empty string."""
    value = value.strip() if isinstance(value, str) else ""
    return value if len(value) <= MAX_ETAG_CHARS and _ETAG.match(value) else ""


def valid_date(value: object) -> str:
    """Return the HTTP-date unchanged if it is well-formed, else an empty string."""
    value = value.strip() if isinstance(value, str) else ""
    if _DATE.match(value):
        return value
    return value if value.isprintable() and parse_date(value) is not None else ""


def is_validator(value: object) -> bool:
    """Return whether a stored value may be sent as If-Range."""
    return bool(valid_etag(value) or valid_date(value))


def range_validator(head: ResponseHeaders) -> str:
    """Return the value for If-Range (RFC 9110, 13.1.5): a strong entity tag, else a strong date, else empty.

    A date is strong if the response's Date is at least one second later (8.8.2.2): two versions within one second have
    the same date.
    """
    etag = valid_etag(head.get("etag"))
    if etag and not etag.startswith("W/"):
        return etag
    modified = valid_date(head.get("last-modified"))
    sent, changed = parse_date(head.get("date")), parse_date(modified)
    return modified if sent and changed and (sent - changed).total_seconds() >= 1 else ""
