"""ETag and Last-Modified: values of a server that are sent back to it, so only well-formed ones are kept."""

import re

from laion_assets.http.messages.dates import parse_date
from laion_assets.http.messages.response_headers import ResponseHeaders

MAX_ETAG_CHARS = 1_000
_ETAG = re.compile(r'(?:W/)?"[\x20\x21\x23-\x7e\x80-\xff]*"\Z|[\x21\x23-\x7e]+\Z')
"""RFC 9110, 8.8.3, and tags without quotes, which servers send; never a control character."""
_DATE = re.compile(r"[A-Z][a-z]{2}, [0-3][0-9] [A-Z][a-z]{2} [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT\Z")
"""As nearly every server writes dates: it need not be parsed to be sent back."""


def valid_etag(value: object) -> str:
    """The entity tag if it may be sent back, else empty."""
    value = value.strip() if isinstance(value, str) else ""
    return value if len(value) <= MAX_ETAG_CHARS and _ETAG.match(value) else ""


def valid_date(value: object) -> str:
    """The HTTP-date, as it was sent, if it is one that may be sent back, else empty."""
    value = value.strip() if isinstance(value, str) else ""
    if _DATE.match(value):
        return value
    return value if value.isprintable() and parse_date(value) is not None else ""


def is_validator(value: object) -> bool:
    """Whether a value that was kept may be sent back as If-Range."""
    return bool(valid_etag(value) or valid_date(value))


def range_validator(head: ResponseHeaders) -> str:
    """What If-Range takes (RFC 9110, 13.1.5): a strong entity tag, else a strong date; empty if there is none.

    A date is strong if the response was made at least a second after it (8.8.2.2): two versions of one second have the
    same date.
    """
    etag = valid_etag(head.get("etag"))
    if etag and not etag.startswith("W/"):
        return etag
    modified = valid_date(head.get("last-modified"))
    made, changed = parse_date(head.get("date")), parse_date(modified)
    return modified if made and changed and (made - changed).total_seconds() >= 1 else ""
