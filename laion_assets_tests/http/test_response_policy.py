"""Outcomes that the response headers determine."""

from datetime import UTC, datetime

import pytest

from laion_assets.http.messages.dates import retry_after_s
from laion_assets.http.messages.response_headers import ResponseHeaders

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("99999999999999999999", 604_800.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 604_800.0),
        ("Thu, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Thu, 01 Jan 0001 00:00:00 +9999", None),
        ("Thu, 01 Jan 2026 12:00:30 +99999999999999999999", None),
        ("²", None),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30.0),
        ("Thu Jan  1 12:00:30 2026", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Thu, 99 Jan 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after_s(ResponseHeaders(429, (("retry-after", value),)), NOW) == seconds


def test_date_is_relative_to_the_date_of_the_response():
    headers = (("date", "Thu, 01 Jan 2015 00:00:00 GMT"), ("retry-after", "Thu, 01 Jan 2015 00:00:07 GMT"))
    assert retry_after_s(ResponseHeaders(503, headers), NOW) == 7.0


def test_no_retry_after():
    assert retry_after_s(ResponseHeaders(503, ()), NOW) is None
