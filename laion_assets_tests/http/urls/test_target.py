"""Parsing of URLs, valid and invalid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_assets.http.urls.target import follow, parse_target
from laion_assets.reasons import Reason, Rejection


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "host_header"),
    [
        ("http://a.test", "a.test", 80, "/", "a.test"),
        ("HTTPS://A.Test/x?y=1#z", "a.test", 443, "/x?y=1", "a.test"),
        ("http://a.test:8080/x", "a.test", 8080, "/x", "a.test:8080"),
        (" http://a.test/x y ", "a.test", 80, "/x%20y", "a.test"),
        ("http://a.test/é?ü", "a.test", 80, "/%C3%A9?%C3%BC", "a.test"),
        ("http://a.test/%C3%A9|{}^", "a.test", 80, "/%C3%A9|{}^", "a.test"),
        ("http://bücher.test/", "xn--bcher-kva.test", 80, "/", "xn--bcher-kva.test"),
        ("http://straße.test/", "xn--strae-oqa.test", 80, "/", "xn--strae-oqa.test"),
        ("http://Ａ。BÜCHER.test/", "a.xn--bcher-kva.test", 80, "/", "a.xn--bcher-kva.test"),
        ("http://☕.test/", "xn--53h.test", 80, "/", "xn--53h.test"),
        ("http://①②⑦.⓪.⓪.①/", "127.0.0.1", 80, "/", "127.0.0.1"),
        ("http://u:p@a.test/", "a.test", 80, "/", "a.test"),
        ("http://[::1]:81/", "::1", 81, "/", "[::1]:81"),
        ("http://a.test?q", "a.test", 80, "/?q", "a.test"),
    ],
)
def test_parts(url, host, port, path, host_header):
    target = parse_target(url)
    assert (target.host, target.port, target.path, target.host_header) == (host, port, path, host_header)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", Reason.INVALID_URL),
        ("photo.jpg", Reason.INVALID_URL),
        ("//a.test/x", Reason.INVALID_URL),
        ("http://", Reason.INVALID_URL),
        ("http:///x", Reason.INVALID_URL),
        ("http://a b/", Reason.INVALID_URL),
        ("http://a..test/", Reason.INVALID_URL),
        (f"http://{'a' * 64}.test/", Reason.INVALID_URL),
        ("http://a.test:0/", Reason.INVALID_URL),
        ("http://a.test:99999/", Reason.INVALID_URL),
        ("http://a.test:x/", Reason.INVALID_URL),
        ("http://[::1/", Reason.INVALID_URL),
        ("http://127%2e0.0.1/", Reason.INVALID_URL),
        ("http://a℀b.test/", Reason.INVALID_URL),
        (f"http://{'ü' * 300}.test/", Reason.INVALID_URL),
        ("file:///etc/passwd", Reason.UNSUPPORTED_SCHEME),
        ("ftp://a.test/", Reason.UNSUPPORTED_SCHEME),
        ("data:image/png;base64,AA", Reason.UNSUPPORTED_SCHEME),
        ("javascript:alert(1)", Reason.UNSUPPORTED_SCHEME),
        ("gopher://a.test/", Reason.UNSUPPORTED_SCHEME),
    ],
)
def test_refused(url, reason):
    with pytest.raises(Rejection) as rejection:
        parse_target(url)
    assert rejection.value.reason is reason


@given(st.text(max_size=60), st.sampled_from(["", "http://", "http://a.test/", "http://a.test:"]))
def test_any_text_is_a_sendable_target_or_rejected(text, start):
    try:
        target = parse_target(start + text)
    except Rejection:
        return
    assert target.path.isascii()
    assert target.path[0] == "/"
    assert not set(target.path + target.host_header) & set("\r\n\t \0")


def test_redirects_are_relative_to_where_they_came_from():
    start = parse_target("https://a.test/x/y?z")
    assert follow(start, "w").url == "https://a.test/x/w"
    assert follow(start, "//b.test/").host == "b.test"
    assert follow(start, "/\xc3\xa9 1").path == "/%C3%A9%201"


@pytest.mark.parametrize("location", ["", "http://[", "http://a.test:0/"])
def test_a_redirect_to_no_url_is_a_bad_redirect(location):
    with pytest.raises(Rejection, match="bad_redirect"):
        follow(parse_target("http://a.test/"), location)
