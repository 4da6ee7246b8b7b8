"""Parse times in headers: HTTP-dates and Retry-After. Invalid values are common."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from laion_assets.http.messages.response_headers import ResponseHeaders

MAX_RETRY_AFTER_S = 7 * 24 * 3600.0
"""Limit for Retry-After. Some servers send a date in the year 9999."""
_MAX_DATE_CHARS = 64
_MAX_DIGITS = 9


def parse_date(value: str | None) -> datetime | None:
    """Parse an HTTP-date (RFC 9110, 5.6.7) to UTC. Returns None for anything else, such as impossible dates."""
    if not value or len(value) > _MAX_DATE_CHARS or not value.isascii():
        return None
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after_s(head: ResponseHeaders, now: datetime | None = None) -> float | None:
    """Return Retry-After in seconds, from a number or an HTTP-date (RFC 9110, 10.2.3); None if missing or invalid.

    A date is relative to the response's own Date if it has one, because the two clocks may differ. At most
    MAX_RETRY_AFTER_S.
    """
    value = (head.get("retry-after") or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:_MAX_DIGITS]), MAX_RETRY_AFTER_S)
    later = parse_date(value)
    if later is None:
        return None
    since = parse_date(head.get("date")) or now or datetime.now(UTC)
    return min(max(0.0, (later - since).total_seconds()), MAX_RETRY_AFTER_S)
