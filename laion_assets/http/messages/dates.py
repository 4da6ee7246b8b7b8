"""Times in headers: HTTP-dates and Retry-After, which any server may write as it likes."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from laion_assets.http.messages.response_headers import ResponseHeaders

MAX_RETRY_AFTER_S = 7 * 24 * 3600.0
"""A longer Retry-After is taken for this: a year-9999 date means "not soon"."""
_MAX_DATE_CHARS = 64
_MAX_DIGITS = 9


def parse_date(value: str | None) -> datetime | None:
    """An HTTP-date (RFC 9110, 5.6.7) in UTC, None for anything else: absurd days, years and offsets included."""
    if not value or len(value) > _MAX_DATE_CHARS or not value.isascii():
        return None
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after_s(head: ResponseHeaders, now: datetime | None = None) -> float | None:
    """Retry-After in seconds, of a number or an HTTP-date (RFC 9110, 10.2.3); None where there is none or nonsense.

    A date is measured from the response's own Date, if it has one: the server's clock and ours may differ. At most
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
