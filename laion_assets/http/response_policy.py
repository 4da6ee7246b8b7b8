"""Classify a response by its status and headers: read the body, follow a redirect, or reject it."""

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.consent.content_usage import disallowed_usage
from laion_assets.http.consent.robots_tag import find_refusal
from laion_assets.http.messages.dates import retry_after_s
from laion_assets.http.messages.framing import is_whole_range
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.reasons import Reason, Rejection

REDIRECTS = {301, 302, 303, 307, 308}
_BACK_OFF = {429, 503}
_NO_BODY = {204, 205}
_CONSENT = frozenset(("x-robots-tag", "tdm-reservation", "content-usage"))
_WITH_BODY = {200, 201, 202, 203}
"""The statuses whose body urllib, and therefore img2dataset, accepts."""


def check_response(head: ResponseHeaders, policy: FetchPolicy) -> str | None:
    """Return None if the body is to be read, or the Location of a redirect. Raises Rejection for everything else."""
    if head.status in REDIRECTS:
        location = head.get("location")
        if location is None:
            raise Rejection(Reason.BAD_REDIRECT, f"HTTP {head.status} without a Location header")
        return location
    if head.status in _NO_BODY:
        raise Rejection(Reason.NO_CONTENT, f"HTTP {head.status}")
    if head.status not in _WITH_BODY and not (head.status == 206 and is_whole_range(head)):
        back_off_s = retry_after_s(head) if head.status in _BACK_OFF else None
        raise Rejection(Reason.of_http_status(head.status), f"HTTP {head.status}", back_off_s)
    if head.has_any(_CONSENT):
        _check_consent(head, policy)
    return None


def _check_consent(head: ResponseHeaders, policy: FetchPolicy) -> None:
    refused = find_refusal(
        head.all("x-robots-tag"), head.all("tdm-reservation"), policy.opt_out_directives, policy.opt_out_tokens
    )
    if refused is not None:
        raise Rejection(Reason.OPTED_OUT, refused)
    statements = head.all("content-usage")
    if statements:  # several headers are one dictionary (RFC 9651, 4.2)
        usage = disallowed_usage([", ".join(statements)], policy.opt_out_usages)
        if usage is not None:
            raise Rejection(Reason.OPTED_OUT, f"Content-Usage: {usage}=n")


def check_robots_response(head: ResponseHeaders) -> str | None:
    """Do the same for a robots.txt (RFC 9309, 2.3.1): a 4xx allows everything, a 5xx forbids everything."""
    if head.status in REDIRECTS:
        return head.get("location") or ""
    if head.status >= 500:
        raise Rejection(Reason.of_http_status(head.status), f"robots.txt: HTTP {head.status}", retry_after_s(head))
    return None
