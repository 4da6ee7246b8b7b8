"""The one writer of requests."""

import pytest

from laion_assets.http.messages.request import request_bytes
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection

TARGET = parse_target("http://a.test:8080/x?y=1")


def test_a_request() -> None:
    assert request_bytes(TARGET, {"If-None-Match": '"é"', "X": ""}) == (
        b'GET /x?y=1 HTTP/1.1\r\nHost: a.test:8080\r\nIf-None-Match: "\xe9"\r\nX: \r\n\r\n'
    )


@pytest.mark.parametrize(
    "value", ["a\nb", "a\r\nX-Evil: 1", "a\rb", "a\0b", "a\x1bb", "a\x7f", "a\r\n\r\nGET / HTTP/1.1", "☃"]
)
def test_header_with_a_line_break_is_not_sent(value: str) -> None:
    for headers in ({"ETag": value}, {value: "x"}, {"A": value, "B": "x"}):
        with pytest.raises(Rejection) as raised:
            request_bytes(TARGET, headers)
        assert raised.value.reason is Reason.INTERNAL
