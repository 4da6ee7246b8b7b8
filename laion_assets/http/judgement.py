"""What an answer's head decides before its body is read: a redirect, a refusal, a failure, or a body to read."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from laion_assets.http.content_usage import disallowed_usage
from laion_assets.http.head import Head
from laion_assets.http.policy import FetchPolicy
from laion_assets.http.robots_tag import refused_by
from laion_assets.reasons import Reason, Rejection

REDIRECTS = {301, 302, 303, 307, 308}
_RESTING = {429, 503}


def judge(head: Head, policy: FetchPolicy) -> str | None:
    """None if the body is to be read, the Location of a redirect; raises Rejection for everything else."""
    if head.status in REDIRECTS:
        location = head.get("location")
        if location is None:
            raise Rejection(Reason.BAD_REDIRECT, f"HTTP {head.status} without a Location header")
        return location
    if head.status == 204:
        raise Rejection(Reason.NO_CONTENT, "HTTP 204")
    if head.status not in (200, 203):
        rest_s = retry_after_s(head) if head.status in _RESTING else None
        raise Rejection(Reason.of_http_status(head.status), f"HTTP {head.status}", rest_s)
    refused = refused_by(
        head.all("x-robots-tag"), head.all("tdm-reservation"), policy.opt_out_directives, policy.opt_out_tokens
    )
    if refused is not None:
        raise Rejection(Reason.OPTED_OUT, refused)
    statements = head.all("content-usage")
    if statements:  # several headers are one dictionary (RFC 9651, 4.2)
        usage = disallowed_usage([", ".join(statements)], policy.opt_out_usages)
        if usage is not None:
            raise Rejection(Reason.OPTED_OUT, f"Content-Usage: {usage}=n")
    return None


def judge_robots(head: Head) -> str | None:
    """The same for a robots.txt (RFC 9309, 2.3.1): every 4xx allows all, a 5xx forbids all and is a Rejection."""
    if head.status in REDIRECTS:
        return head.get("location") or ""
    if head.status >= 500:
        raise Rejection(Reason.of_http_status(head.status), f"robots.txt: HTTP {head.status}", retry_after_s(head))
    return None


def retry_after_s(head: Head, now: datetime | None = None) -> float | None:
    """Retry-After in seconds, of a number or an HTTP-date (RFC 9110, 10.2.3); None where there is none or nonsense.

    A date is measured from the answer's own Date, if it has one: the server's clock and ours may differ.
    """
    value = (head.get("retry-after") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    later = _date(value)
    if later is None:
        return None
    return max(0.0, (later - (_date(head.get("date")) or now or datetime.now(UTC))).total_seconds())


def _date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
