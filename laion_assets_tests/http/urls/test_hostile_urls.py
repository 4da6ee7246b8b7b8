"""Misleading URLs and redirects: one clean request to a checked address is sent, or none."""

from dataclasses import replace

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.errors import SettingError
from laion_assets.http.fetch import Fetcher, fetch
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, raw, running

BODY = b"\xff\xd8\xff" + bytes(3_000)
INWARD = {
    "file:///etc/passwd": Reason.UNSUPPORTED_SCHEME,
    "FILE:///etc/passwd": Reason.UNSUPPORTED_SCHEME,
    "ftp://photos.test/x": Reason.UNSUPPORTED_SCHEME,
    "gopher://127.0.0.1:6379/_x": Reason.UNSUPPORTED_SCHEME,
    "data:image/gif;base64,AA": Reason.UNSUPPORTED_SCHEME,
    "javascript:alert(1)": Reason.UNSUPPORTED_SCHEME,
    "http://127.0.0.1/": Reason.BLOCKED_ADDRESS,
    "http://localhost/": Reason.BLOCKED_ADDRESS,
    "http://2130706433/": Reason.BLOCKED_ADDRESS,
    "http://0x7f000001/": Reason.BLOCKED_ADDRESS,
    "http://0177.0.0.01/": Reason.BLOCKED_ADDRESS,
    "http://127.1/": Reason.BLOCKED_ADDRESS,
    "http://0/": Reason.BLOCKED_ADDRESS,
    "http://0.0.0.0/": Reason.BLOCKED_ADDRESS,
    "http://10.1.2.3/": Reason.BLOCKED_ADDRESS,
    "http://172.16.0.1/": Reason.BLOCKED_ADDRESS,
    "http://192.168.1.1/": Reason.BLOCKED_ADDRESS,
    "http://100.64.0.1/": Reason.BLOCKED_ADDRESS,
    "http://169.254.169.254/latest/meta-data/": Reason.BLOCKED_ADDRESS,
    "http://224.0.0.1/": Reason.BLOCKED_ADDRESS,
    "http://255.255.255.255/": Reason.BLOCKED_ADDRESS,
    "http://[::]/": Reason.BLOCKED_ADDRESS,
    "http://[::1]/": Reason.BLOCKED_ADDRESS,
    "http://[::ffff:127.0.0.1]/": Reason.BLOCKED_ADDRESS,
    "http://[::ffff:a9fe:a9fe]/": Reason.BLOCKED_ADDRESS,
    "http://[64:ff9b::a00:1]/": Reason.BLOCKED_ADDRESS,
    "http://[2002:7f00:1::]/": Reason.BLOCKED_ADDRESS,
    "http://[2001:0:7f00:1::]/": Reason.BLOCKED_ADDRESS,
    "http://[fd00::1]/": Reason.BLOCKED_ADDRESS,
    "http://[fe80::1]/": Reason.BLOCKED_ADDRESS,
    "http://[ff02::1]/": Reason.BLOCKED_ADDRESS,
    "http://user:secret@127.0.0.1/": Reason.BLOCKED_ADDRESS,
    "http://photos.test@127.0.0.1/": Reason.BLOCKED_ADDRESS,
    "http://photos.test\\@127.0.0.1/": None,
    "http://127.0.0.1\\@photos.test/": None,
    "http://127.0.0.1#@photos.test/": Reason.BLOCKED_ADDRESS,
    "http://127.0.0.1?@photos.test/": Reason.BLOCKED_ADDRESS,
    "http://127。0。0。1/": Reason.BLOCKED_ADDRESS,
    "http:\\\\127.0.0.1\\x": None,
    "http://photos.test:0/": None,
    "http://photos.test:99999/": None,
    "http://photos.test:-1/": None,
    "http://pho tos.test/": None,
    "http://photos..test/": None,
    "http://%31%32%37.0.0.1/": None,
    "http://\u00ad/": None,
}
"""URL to reason; None where it is no URL: `invalid_url` of a row, of a redirect `bad_redirect` or a relative path."""


@pytest.fixture(scope="module")
def site():
    pages = {
        "/plain": answer(BODY, "200 OK", "Set-Cookie: a=b; Path=/", "Set-Cookie2: c=d"),
        "/cookie": answer(b"", "302 Found", "Location: /plain", "Set-Cookie: a=b"),
        "/long": answer(b"", "302 Found", "Location: /plain?" + "x" * 50_000),
        "/very-long": answer(b"", "302 Found", "Location: /" + "x" * 1_000_000),
        "/cr": raw(b"HTTP/1.1 302 Found\r\nLocation: /plain\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n"),
        "/nul": raw(b"HTTP/1.1 302 Found\r\nLocation: /pl\0ain\r\nContent-Length: 0\r\n\r\n"),
        "/split": raw(b"HTTP/1.1 302 Found\r\nLocation: /plain\r\n X-Evil: 1\r\nContent-Length: 0\r\n\r\n"),
        "/user": answer(b"", "302 Found", "Location: http://user:secret@photos.test/plain"),
        "/old": raw(b"<html><body>an answer of HTTP/0.9</body></html>"),
        "/two": answer(b"", "302 Found", "Location: /plain", "Location: http://127.0.0.1/"),
    }
    with running(pages) as running_site:
        yield running_site


@pytest.fixture
def policy(site):
    site.seen.clear()
    site.requests.clear()
    return FetchPolicy(connect_timeout_s=1.0, deadline_s=2.0, retries=0, resolve=site.resolve)


@pytest.mark.parametrize("url", INWARD)
def test_row_cannot_name_a_private_address(url, site, policy):
    assert fetch(url, policy).reason is (INWARD[url] or Reason.INVALID_URL)
    assert site.seen == []


@pytest.mark.parametrize("url", [url for url, reason in INWARD.items() if reason is not None])
def test_redirect_cannot_name_a_private_address(url, site, policy):
    location = f"Location: {url}".encode()
    site.pages["/inward"] = raw(b"HTTP/1.1 302 Found\r\n" + location + b"\r\nContent-Length: 0\r\n\r\n")
    fetched = fetch(site.url("/inward"), policy)
    assert fetched.reason in (INWARD[url], Reason.BAD_REDIRECT)
    assert site.seen == ["/inward"]


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://photos.test/plain\r\nX-Evil: 1", "GET /plainX-Evil:%201 HTTP/1.1"),
        ("http://photos.test/plain HTTP/1.1\r\n\r\nGET /x", "GET /plain%20HTTP/1.1GET%20/x HTTP/1.1"),
        ("http://photos.test/a\tb\0c\x7f", "GET /ab%00c%7F HTTP/1.1"),
        ("http://photos.test/plain?a\r\nb#c\r\nd", "GET /plain?ab HTTP/1.1"),
        ("http://user:secret@photos.test/plain#fragment", "GET /plain HTTP/1.1"),
        ("http://photos.test./a\\b", "GET /a\\b HTTP/1.1"),
        ("http://bücher.test/ä/../b", "GET /%C3%A4/../b HTTP/1.1"),
        ("http://XN--BCHER-KVA.test/", "GET / HTTP/1.1"),
        ("http://photos.test//169.254.169.254/", "GET //169.254.169.254/ HTTP/1.1"),
    ],
)
def test_one_valid_request_is_sent(url, line, site, policy):
    fetch(url, policy)
    head, _, rest = site.requests[0].decode("ascii").partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert (lines[0], rest, len(site.requests)) == (line, "", 1)
    names = [each.partition(":")[0] for each in lines[1:]]
    assert names == ["Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"]
    assert "secret" not in head


def test_cookies_are_neither_kept_nor_sent(site, policy):
    fetcher = Fetcher(policy)
    assert [fetcher.fetch(site.url(path)).reason for path in ("/cookie", "/plain")] == [Reason.SUCCESS] * 2
    assert not any(b"cookie:" in request.lower() for request in site.requests)
    fetcher.close()


@pytest.mark.parametrize(
    ("path", "reason", "asked"),
    [
        ("/long", Reason.SUCCESS, 2),
        ("/very-long", Reason.TOO_LARGE, 1),
        ("/cr", Reason.HTTP_404, 2),
        ("/nul", Reason.HTTP_404, 2),
        ("/split", Reason.HTTP_404, 2),
        ("/user", Reason.SUCCESS, 2),
        ("/old", Reason.BAD_RESPONSE, 1),
        ("/two", Reason.SUCCESS, 2),
    ],
)
def test_odd_redirects_send_no_more_than_a_clean_request(path, reason, asked, site, policy):
    assert fetch(site.url(path), policy).reason is reason
    assert len(site.requests) == asked
    assert b"\nX-Evil" not in b"".join(site.requests)
    assert b"secret" not in b"".join(site.requests)


@pytest.mark.parametrize("user_agent", ["a\r\nX-Evil: 1", "a\nb", "ä", "", " ", "a\0"])
def test_a_user_agent_that_is_not_a_valid_header_is_refused_by_name(user_agent, policy):
    with pytest.raises(SettingError, match=r"images\.fetch\.user_agent"):
        replace(policy, user_agent=user_agent)
