"""One URL against a hostile site: each fault has its reason, and none takes longer than the policy allows."""

import gzip
import socket
import ssl
import struct
import time
import tracemalloc
import zlib
from dataclasses import replace

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.fetch import Fetcher, fetch
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, raw, running

CAP = 100_000
BODY = b"\xff\xd8\xff" + bytes(range(256)) * 20
DEADLINE_S, SILENCE_S = 1.2, 0.6


def drip(start, piece, every_s=0.1):
    """`start`, then `piece` without end."""

    def talk(sock):
        sock.sendall(start)
        while True:
            sock.sendall(piece)
            time.sleep(every_s)

    return talk


def silence(start=b""):
    def talk(sock):
        sock.sendall(start)
        time.sleep(5)

    return talk


def reset(start=b""):
    def talk(sock):
        if start:
            sock.sendall(start)
            time.sleep(0.1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    return talk


def flood(start, piece):
    return drip(start, piece, every_s=0.0)


def redirect(location, status="302 Found"):
    return answer(b"moved", status, f"Location: {location}")


def chunked(*pieces, end=b"0\r\n\r\n"):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return raw(head, *(f"{len(piece):x};x=y\r\n".encode() + piece + b"\r\n" for piece in pieces), end)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 1000\r\n\r\n"
FAULTS = {
    # FAULTS.md B 14: redirects
    "/loop": (redirect("/loop"), Reason.REDIRECT_LOOP),
    "/loop-a": (redirect("/loop-b"), Reason.REDIRECT_LOOP),
    "/loop-b": (redirect("/loop-a"), Reason.REDIRECT_LOOP),
    "/to-file": (redirect("file:///etc/passwd"), Reason.UNSUPPORTED_SCHEME),
    "/to-ftp": (redirect("ftp://photos.test/x"), Reason.UNSUPPORTED_SCHEME),
    "/to-data": (redirect("data:image/gif;base64,AA"), Reason.UNSUPPORTED_SCHEME),
    "/to-loopback": (redirect("http://127.0.0.1/"), Reason.BLOCKED_ADDRESS),
    "/to-metadata": (redirect("http://169.254.169.254/latest"), Reason.BLOCKED_ADDRESS),
    "/to-decimal": (redirect("//2130706433/"), Reason.BLOCKED_ADDRESS),
    "/to-nothing": (answer(b"", "301 Moved Permanently"), Reason.BAD_REDIRECT),
    "/to-empty": (redirect(""), Reason.BAD_REDIRECT),
    "/to-nonsense": (redirect("http://[/"), Reason.BAD_REDIRECT),
    # B 17: time
    "/drip-body": (drip(OK + b"Content-Length: 1000\r\n\r\n", b"x"), Reason.DEADLINE),
    "/drip-chunks": (drip(CHUNKED, b"1\r\nx\r\n"), Reason.DEADLINE),
    "/drip-headers": (drip(OK, b"X-A: b\r\n"), Reason.DEADLINE),
    "/drip-in-header": (drip(OK + b"X-A: ", b"b"), Reason.DEADLINE),
    "/drip-status": (drip(b"HTTP/1.1 ", b" "), Reason.DEADLINE),
    "/drip-continue": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Reason.DEADLINE),
    "/silence": (silence(), Reason.DEADLINE),
    "/silence-in-body": (silence(LONG + b"x"), Reason.DEADLINE),
    # B 18: size
    "/announced": (answer(b"x", length=10**12), Reason.TOO_LARGE),
    "/flood": (flood(OK + b"\r\n", b"x" * 65536), Reason.TOO_LARGE),
    "/flood-chunks": (
        flood(CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        Reason.TOO_LARGE,
    ),
    "/huge-chunk": (raw(CHUNKED + b"ffffffffff\r\n"), Reason.TOO_LARGE),
    "/flood-headers": (flood(OK, b"X-A: " + b"b" * 1000 + b"\r\n"), Reason.TOO_LARGE),
    "/flood-header": (flood(OK + b"X-A: ", b"b" * 65536), Reason.TOO_LARGE),
    "/gzip-bomb": (answer(gzip.compress(b"\0" * 10**8), "200 OK", "Content-Encoding: gzip"), Reason.TOO_LARGE),
    "/brotli": (answer(b"\x0b\x02\x80" + BODY[3:], "200 OK", "Content-Encoding: br"), Reason.BAD_ENCODING),
    "/zstd": (answer(b"\x28\xb5\x2f\xfd" + BODY, "200 OK", "Content-Encoding: zstd"), Reason.BAD_ENCODING),
    "/not-deflate": (answer(b"\x01\x02\x03" + BODY[3:], "200 OK", "Content-Encoding: deflate"), Reason.BAD_ENCODING),
    "/bad-gzip": (answer(b"\x1f\x8b\xff" + BODY[3:], "200 OK", "Content-Encoding: gzip"), Reason.BAD_ENCODING),
    "/gzip-members": (answer(gzip.compress(b"") * 2_000, "200 OK", "Content-Encoding: gzip"), Reason.BAD_ENCODING),
    "/twice": (answer(BODY, "200 OK", "Content-Encoding: gzip, gzip"), Reason.BAD_ENCODING),
    # B 19: broken connections
    "/short": (answer(BODY, length=len(BODY) + 5), Reason.SHORT_BODY),
    "/short-chunk": (chunked(BODY, end=b"ff\r\nabc"), Reason.SHORT_BODY),
    "/short-gzip": (answer(gzip.compress(BODY)[:-9], "200 OK", "Content-Encoding: gzip"), Reason.SHORT_BODY),
    "/closed": (raw(b""), Reason.CONNECTION_RESET),
    "/closed-in-headers": (raw(OK + b"X: y\r\n"), Reason.CONNECTION_RESET),
    "/reset": (reset(), Reason.CONNECTION_RESET),
    "/reset-in-headers": (reset(OK), Reason.CONNECTION_RESET),
    "/reset-in-body": (reset(LONG + b"x"), Reason.CONNECTION_RESET),
    # nonsense
    "/not-http": (raw(b"SSH-2.0-OpenSSH\r\n"), Reason.BAD_RESPONSE),
    "/http-2": (raw(b"HTTP/2 200\r\n\r\n"), Reason.BAD_RESPONSE),
    "/switch": (raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Reason.BAD_RESPONSE),
    "/two-lengths": (raw(OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"), Reason.BAD_RESPONSE),
    "/minus": (raw(OK + b"Content-Length: -4\r\n\r\nabcd"), Reason.BAD_RESPONSE),
    "/bad-chunk": (raw(CHUNKED + b"-1\r\nabc"), Reason.BAD_RESPONSE),
    "/bad-chunk-end": (raw(CHUNKED + b"1\r\nabc\r\n"), Reason.BAD_RESPONSE),
    "/other-coding": (raw(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"), Reason.BAD_RESPONSE),
    # B 20: statuses
    "/empty": (answer(b""), Reason.NO_CONTENT),
    "/205": (answer(b"", "205 Reset Content"), Reason.NO_CONTENT),
    "/206-part": (answer(BODY, "206 Partial Content", "Content-Range: bytes 0-9/99999"), Reason.HTTP_OTHER),
    "/204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), Reason.NO_CONTENT),
    "/206": (answer(BODY, "206 Partial Content"), Reason.HTTP_OTHER),
    "/304": (answer(b"", "304 Not Modified"), Reason.HTTP_OTHER),
    "/400": (answer(b"", "400 Bad Request"), Reason.HTTP_4XX),
    "/403": (answer(b"", "403 Forbidden"), Reason.HTTP_403),
    "/404": (answer(BODY, "404 Not Found"), Reason.HTTP_404),
    "/410": (answer(b"", "410 Gone"), Reason.HTTP_410),
    "/429": (answer(b"", "429 Too Many Requests"), Reason.HTTP_429),
    "/451": (answer(b"", "451 Unavailable For Legal Reasons"), Reason.HTTP_451),
    "/500": (answer(b"", "500 Internal Server Error"), Reason.HTTP_5XX),
    "/503": (answer(b"", "503 Service Unavailable"), Reason.HTTP_5XX),
    "/999": (answer(b"", "999 Request denied"), Reason.HTTP_OTHER),
    # B 22: consent
    "/noai": (answer(BODY, "200 OK", "X-Robots-Tag: noai"), Reason.OPTED_OUT),
    "/noai-second": (answer(BODY, "200 OK", "x-robots-tag: all", "X-ROBOTS-TAG: nofollow, noai"), Reason.OPTED_OUT),
    "/tdm": (answer(BODY, "200 OK", "TDM-Reservation: 1"), Reason.OPTED_OUT),
}
GOOD = {
    "/plain": answer(BODY),
    "/until-end": raw(OK + b"Content-Type: image/jpeg\r\n\r\n", BODY),
    "/http-1.0": raw(b"HTTP/1.0 200 OK\n\n", BODY),
    "/no-phrase": raw(b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n" % len(BODY), BODY + b"and more"),
    "/chunks": chunked(BODY[:7], BODY[7:]),
    "/chunks-no-end": chunked(BODY, end=b"0\r\n"),
    "/gzip": answer(gzip.compress(BODY), "200 OK", "Content-Encoding: gzip"),
    "/deflate": answer(zlib.compress(BODY), "200 OK", "Content-Encoding: deflate"),
    "/raw-deflate": answer(zlib.compress(BODY)[2:-4], "200 OK", "Content-Encoding: deflate"),
    "/identity": answer(BODY, "200 OK", "Content-Encoding: identity"),
    "/gzip-and-more": answer(gzip.compress(BODY) + bytes(9), "200 OK", "Content-Encoding: gzip"),
    "/gzip-in-two": answer(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]), "200 OK", "Content-Encoding: gzip"),
    **{
        f"/untrue-{label}": answer(BODY, "200 OK", f"Content-Encoding: {label}")
        for label in ("UTF-8", "none", "binary", "aws-chunked", "gzip", "x-gzip", "br", "deflate", "zstd")
    },
    "/labels": answer(gzip.compress(BODY), "200 OK", "Content-Encoding: aws-chunked, gzip"),
    "/te-identity": answer(BODY, "200 OK", "Transfer-Encoding: identity"),
    "/bare-lf": raw(b"HTTP/1.1 200 OK\nContent-Length: %d\n\n" % len(BODY), BODY),
    "/201": answer(BODY, "201 Created"),
    "/202": answer(BODY, "202 Accepted"),
    "/203": answer(BODY, "203 Non-Authoritative Information"),
    "/206-whole": answer(BODY, "206 Partial Content", f"Content-Range: bytes 0-{len(BODY) - 1}/{len(BODY)}"),
    "/continue": raw(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY),
    "/folded": raw(OK + b"X-A: b\r\n  c\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY),
    "/other-bot": answer(BODY, "200 OK", "X-Robots-Tag: otherbot: noai"),
    "/moved": redirect("/plain"),
    "/moved-host": redirect("http://other.test/plain", "308 Permanent Redirect"),
    "/moved-utf8": raw("HTTP/1.1 302 Found\r\nLocation: /plain?é\r\n\r\n".encode()),
}
PAGES = {path: talk for path, (talk, _) in FAULTS.items()} | GOOD


@pytest.fixture(scope="module")
def site():
    with running(PAGES) as running_site:
        yield running_site


@pytest.fixture(scope="module")
def policy(site):
    return FetchPolicy(
        connect_timeout_s=SILENCE_S, deadline_s=DEADLINE_S, max_body_bytes=CAP, retries=0, resolve=site.resolve
    )


@pytest.mark.parametrize("path", FAULTS)
def test_each_fault_has_its_reason_within_the_deadline(path, site, policy):
    started = time.monotonic()
    fetched = fetch(site.url(path), policy)
    assert (fetched.reason, fetched.body) == (FAULTS[path][1], b"")
    assert fetched.detail
    assert time.monotonic() - started < DEADLINE_S + 2
    assert fetched.attempts == 1


@pytest.mark.parametrize("path", GOOD)
def test_valid_responses_return_the_body(path, site, policy):
    fetched = fetch(site.url(path), policy)
    assert (fetched.reason, fetched.body) == (Reason.SUCCESS, BODY)


def test_hops_name_the_connected_endpoint(site, policy):
    fetched = fetch(site.url("/moved-host"), policy)
    assert [(hop.url, hop.address, hop.status) for hop in fetched.hops] == [
        (site.url("/moved-host"), f"127.0.0.1:{site.port}", 308),
        ("http://other.test/plain", f"127.0.0.1:{site.port}", 200),
    ]
    assert fetched.final_url == "http://other.test/plain"


def test_request_has_the_user_agent_and_no_content_coding(site, policy):
    fetch(site.url("/plain?q=ä b", host="Photos-9.test"), policy)
    lines = site.requests[-1].decode().split("\r\n")
    assert lines[0] == "GET /plain?q=%C3%A4%20b HTTP/1.1"
    assert {"Host: photos-9.test", f"User-Agent: {policy.user_agent}", "Accept-Encoding: identity"} <= set(lines)


def test_redirects_are_limited(site, policy):
    pages = {f"/{n}": redirect(f"/{n + 1}") for n in range(11)} | {"/11": answer(BODY)}
    with running(pages) as chain:
        policy = replace(policy, resolve=chain.resolve)
        assert fetch(chain.url("/0"), policy).reason is Reason.TOO_MANY_REDIRECTS
        assert chain.seen == [f"/{n}" for n in range(11)]
        assert fetch(chain.url("/1"), policy).reason is Reason.SUCCESS


@pytest.mark.parametrize("path", ["/404", "/410", "/451", "/403", "/noai", "/tdm", "/announced", "/loop", "/silence"])
def test_permanent_failures_are_not_retried(path, site, policy):
    site.seen.clear()
    assert fetch(site.url(path), replace(policy, retries=3)).attempts == 1
    assert site.seen == [path]


@pytest.mark.parametrize("path", ["/short", "/reset", "/reset-in-headers", "/reset-in-body", "/500", "/503", "/429"])
def test_transient_failures_are_retried(path, site, policy):
    site.seen.clear()
    assert fetch(site.url(path), replace(policy, retries=1)).attempts == 2
    assert site.seen == [path, path]


def test_successful_retry_is_a_success(policy):
    def reset_once(sock):
        site.pages["/x"] = answer(BODY)
        reset()(sock)

    with running({"/x": reset_once}) as site:
        fetched = fetch(site.url("/x"), replace(policy, retries=1, resolve=site.resolve))
    assert (fetched.reason, fetched.attempts) == (Reason.SUCCESS, 2)


def test_retry_after_is_honoured_unless_too_long(policy):
    pages = {
        "/soon": answer(b"", "503 Busy", "Retry-After: 1"),
        "/late": answer(b"", "429 Slow down", "Retry-After: 60"),
        "/date": answer(b"", "429 Slow down", "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT"),
    }
    with running(pages) as site:
        policy = replace(policy, retries=1, resolve=site.resolve, max_retry_after_s=2.0)
        assert [fetch(site.url(path), policy).attempts for path in pages] == [2, 1, 1]


def test_body_of_an_opted_out_response_is_not_read(policy):
    sent = []

    def talk(sock):
        sock.sendall(OK + b"X-Robots-Tag: noai\r\nContent-Length: 90000\r\n\r\n")
        try:
            for _ in range(90):
                time.sleep(0.02)
                sock.sendall(b"x" * 1000)
                sent.append(1000)
        except OSError:
            pass

    with running({"/": talk}) as site:
        fetched = fetch(site.url("/"), replace(policy, resolve=site.resolve))
        time.sleep(0.3)
    assert fetched.reason is Reason.OPTED_OUT
    assert fetched.wire_bytes < 3000
    assert len(sent) < 30


def test_memory_is_flat_under_a_bomb(site, policy):
    tracemalloc.start()
    try:
        for path in ("/gzip-bomb", "/flood", "/announced", "/huge-chunk", "/flood-header"):
            fetch(site.url(path), policy)
        assert tracemalloc.get_traced_memory()[1] < 20 * CAP
    finally:
        tracemalloc.stop()


def test_nothing_is_sent_to_a_private_address_and_proxies_change_nothing(site, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{site.port}")
    site.seen.clear()
    ports = (80, 443, site.port)
    for url in (f"http://127.0.0.1:{site.port}/plain", f"http://localhost:{site.port}/plain", "http://10.0.0.1/plain"):
        assert fetch(url, FetchPolicy(allowed_ports=ports)).reason is Reason.BLOCKED_ADDRESS
    assert fetch(f"http://localhost:{site.port}/plain").reason is Reason.BLOCKED_PORT
    assert site.seen == []


def test_a_closed_port_is_a_connect_failure(policy):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fetched = fetch("http://a.test/", replace(policy, resolve={"*.test": f"127.0.0.1:{port}"}))
    assert (fetched.reason, fetched.detail) == (Reason.CONNECT_FAILURE, "ECONNREFUSED")


def test_tls_is_verified_and_never_downgraded(certificate, policy):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with running({"/": answer(BODY)}, context) as site:
        policy = replace(policy, resolve={"*": f"127.0.0.1:{site.port}"})
        trusting = replace(policy, ca_file=str(certificate[0]))
        fetched = fetch("https://a.test/", trusting)
        assert (fetched.detail, fetched.body) == ("", BODY)
        assert fetch("https://a.example/", trusting).reason is Reason.TLS_FAILURE
        assert fetch("https://a.test/", policy).reason is Reason.TLS_FAILURE
        assert site.seen == ["/"]


def test_endless_handshake_ends_at_the_deadline(policy):
    with running(PAGES) as plain, socket.create_server(("127.0.0.1", 0)) as mute:
        resolve = {"plain.test": f"127.0.0.1:{plain.port}", "mute.test": f"127.0.0.1:{mute.getsockname()[1]}"}
        policy = replace(policy, resolve=resolve)
        started = time.monotonic()
        assert fetch("https://mute.test/", policy).reason is Reason.DEADLINE
        assert time.monotonic() - started < DEADLINE_S
        assert fetch("https://plain.test/", policy).reason in (Reason.TLS_FAILURE, Reason.DEADLINE)


def test_one_fetcher_serves_many_threads(site, policy):
    from concurrent.futures import ThreadPoolExecutor

    fetcher = Fetcher(replace(policy, deadline_s=10.0, connect_timeout_s=10.0))
    with ThreadPoolExecutor(32) as pool:
        fetched = list(pool.map(fetcher.fetch, [site.url("/plain"), site.url("/404")] * 100))
    assert [one.reason for one in fetched] == [Reason.SUCCESS, Reason.HTTP_404] * 100
