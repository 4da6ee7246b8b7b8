"""Reuse of connections: when it is allowed, when it is not, and that no connection leaks."""

import ipaddress
import os
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http import tls
from laion_assets.http.fetch import Fetcher, shared_fetcher
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, raw, running

BODY = b"\xff\xd8\xff" + bytes(range(256)) * 20
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


def chunks(*pieces, end=b"0\r\n\r\n"):
    head = OK + b"Transfer-Encoding: chunked\r\n"
    return head, b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


HEAD, CHUNKS = chunks(BODY)
REUSED = {
    "length": raw(OK + LENGTH + b"\r\n" + BODY),
    "chunked": raw(HEAD + b"\r\n" + CHUNKS),
    "http-1.0 that asks to stay": raw(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + LENGTH + b"\r\n" + BODY),
    "an error whose body is here": answer(b"gone", "404 Not Found"),
    "a redirect": answer(b"moved", "302 Found", "Location: /good"),
}
NOT_REUSED = {
    "until the end": raw(OK + b"\r\n" + BODY),
    "close": raw(OK + LENGTH + b"Connection: close\r\n\r\n" + BODY),
    "close among others": raw(OK + LENGTH + b"Connection: x, Close\r\n\r\n" + BODY),
    "http-1.0": raw(b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY),
    "more than announced": raw(OK + LENGTH + b"\r\n" + BODY + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    "both length and chunked": raw(HEAD + b"Content-Length: 4\r\n\r\n" + CHUNKS),
    "trailers": raw(HEAD + b"\r\n" + chunks(BODY, end=b"0\r\nX: y\r\n\r\n")[1]),
    "a refusal, whose body is not read": raw(OK + LENGTH + b"X-Robots-Tag: noai\r\n\r\n" + BODY),
    "a truncated error": answer(b"x" * 100, "404 Not Found", length=10**6),
    "a malformed chunk": raw(HEAD + b"\r\n-1\r\n"),
}
GOOD = {"/good": answer(BODY)}


def known(fetcher, *hosts, scheme="http"):
    """The fetcher, as if it had just requested these hosts."""
    for host in hosts or ("photos.test",):
        fetcher.pool.expects(scheme, host)
    return fetcher


def policy_for(site, **changes):
    bounds = {"connect_timeout_s": 1.0, "deadline_s": 3.0, "retries": 0, "resolve": site.resolve}
    return FetchPolicy(**(bounds | changes))


@pytest.mark.parametrize("kind", REUSED)
def test_response_read_to_its_end_leaves_a_reusable_connection(kind):
    with running({"/first": REUSED[kind], **GOOD}, stays=True) as site:
        fetcher = known(Fetcher(policy_for(site)))
        fetcher.fetch(site.url("/first"))
        second = fetcher.fetch(site.url("/good"))
        assert (second.body, second.hops[-1].reused, site.connections) == (BODY, True, 1)
        fetcher.close()


@pytest.mark.parametrize("kind", NOT_REUSED)
def test_other_responses_close_their_connection(kind):
    def and_the_end(sock):
        NOT_REUSED[kind](sock)
        if kind in ("until the end", "http-1.0"):
            sock.close()

    with running({"/first": and_the_end, **GOOD}, stays=True) as site:
        fetcher = known(Fetcher(policy_for(site)))
        fetcher.fetch(site.url("/first"))
        assert len(fetcher.pool) == 0
        second = fetcher.fetch(site.url("/good"))
        assert (second.body, second.hops[-1].reused, site.connections) == (BODY, False, 2)
        fetcher.close()


def test_first_request_to_a_host_closes_its_connection():
    """Most hosts of a crawl come once. One that came lately is kept, one that came long ago is not."""
    with running(GOOD, stays=True) as site:
        fetcher = Fetcher(policy_for(site, idle_connections=2))
        hosts = ["a.test", "a.test", "a.test", "b.test", "c.test", "a.test"]
        reused = [fetcher.fetch(site.url("/good", host=host)).hops[-1].reused for host in hosts]
        assert reused == [False, False, True, False, False, True]
        kept = [b"Connection: keep-alive" in request for request in site.requests]
        assert kept == [False, True, True, False, False, False]
        fetcher.close()


def test_no_connection_is_kept_without_idle_connections():
    with running(GOOD, stays=True) as site:
        fetcher = Fetcher(policy_for(site, idle_connections=0))
        assert [fetcher.fetch(site.url("/good")).body for _ in "12"] == [BODY, BODY]
        assert site.connections == 2
        assert b"Connection: close" in site.requests[0]


def end(sock):
    sock.close()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def mute(sock):
    time.sleep(3)


@pytest.mark.parametrize("fault", [end, reset, mute])
def test_dead_idle_connection_is_replaced_within_the_same_attempt(fault):
    faulty = threading.Event()

    def page(sock):
        if faulty.is_set():
            faulty.clear()
            fault(sock)
        else:
            answer(BODY)(sock)

    with running({"/": page}, stays=True) as site:
        fetcher = known(Fetcher(policy_for(site, connect_timeout_s=0.4)))
        fetcher.fetch(site.url("/"))
        faulty.set()
        second = fetcher.fetch(site.url("/"))
        assert (second.reason, second.attempts, second.hops[-1].reused) == (Reason.SUCCESS, 1, False)
        assert site.connections == 2
        fetcher.close()


def test_fault_after_the_first_byte_fails_the_url():
    with running({"/short": answer(BODY, length=len(BODY) + 1), **GOOD}, stays=True) as site:
        short = site.pages["/short"]
        site.pages["/short"] = lambda sock: (short(sock), sock.close())
        fetcher = known(Fetcher(policy_for(site)))
        fetcher.fetch(site.url("/good"))
        cut = fetcher.fetch(site.url("/short"))
        assert (cut.reason, cut.hops[-1].reused, site.seen) == (Reason.SHORT_BODY, True, ["/good", "/short"])
        fetcher.close()


def test_readable_idle_connection_is_not_used():
    with running(
        {"/": lambda sock: (answer(BODY)(sock), time.sleep(0.1), sock.sendall(b"HTTP/1.1 200 OK\r\n"))}
    ) as site:
        fetcher = known(Fetcher(policy_for(site)))
        fetcher.fetch(site.url("/"))
        time.sleep(0.3)
        second = fetcher.fetch(site.url("/"))
        assert (second.body, second.hops[-1].reused) == (BODY, False)
        fetcher.close()


def test_idle_connections_are_limited_in_number_and_time_and_none_leaks():
    with running(GOOD, stays=True) as site:
        before = len(os.listdir("/proc/self/fd"))
        fetcher = Fetcher(policy_for(site, idle_connections=5))
        with ThreadPoolExecutor(8) as threads:
            hosts = [f"h{number // 2}.test" for number in range(40)]
            bodies = list(threads.map(lambda host: fetcher.fetch(site.url("/good", host=host)).body, hosts))
        assert bodies == [BODY] * 40
        assert len(fetcher.pool) == 5
        fetcher.pool._idle_s = 0.05
        time.sleep(0.1)
        assert not fetcher.fetch(site.url("/good", host="h19.test")).hops[-1].reused
        assert len(fetcher.pool) == 1
        fetcher.close()
        assert len(fetcher.pool) == 0
        assert fetcher.fetch(site.url("/good")).body == BODY
        assert len(fetcher.pool) == 0
        deadline = time.monotonic() + 3
        while site.open and time.monotonic() < deadline:
            time.sleep(0.02)
        assert site.open == 0
        assert len(os.listdir("/proc/self/fd")) <= before


def test_hosts_schemes_and_addresses_do_not_share_connections():
    with running(GOOD, stays=True) as site:
        fetcher = known(Fetcher(policy_for(site)), "a.test", "b.test")
        fetcher.fetch(site.url("/good", host="a.test"))
        assert not fetcher.fetch(site.url("/good", host="b.test")).hops[-1].reused
        assert fetcher.fetch(site.url("/good", host="a.test")).hops[-1].reused
        fetcher.close()


def test_guard_checks_the_host_before_every_reuse(monkeypatch):
    """A name that now resolves to a private address is refused, although a connection to the old address is open."""
    answers = [["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"]]
    resolver = Resolver(lambda host: [ipaddress.ip_address(text) for text in answers.pop(0)], ttl_s=0.0)
    monkeypatch.setattr(
        "laion_assets.http.urls.guard.refusal", lambda address, *_, **__: None if address.is_loopback else "private"
    )
    with running(GOOD, stays=True) as site:
        fetcher = known(Fetcher(policy_for(site), Guard({}, (site.port,), resolver)), "rebind.example")
        fetched = [fetcher.fetch(f"http://rebind.example:{site.port}/good") for _ in "123"]
        assert [(one.reason, one.hops[-1].reused) for one in fetched] == [
            (Reason.SUCCESS, False), (Reason.SUCCESS, True), (Reason.BLOCKED_ADDRESS, False)
        ]  # fmt: skip
        fetcher.close()


def test_tls_connections_are_reused_and_sessions_resumed(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with running(GOOD, context, stays=True) as site:
        policy = policy_for(site, ca_file=str(certificate[0]), resolve={"*": f"127.0.0.1:{site.port}"})
        fetcher = known(Fetcher(policy), "a.test", scheme="https")
        assert [fetcher.fetch("https://a.test/good").hops[-1].reused for _ in "123"] == [False, True, True]
        fetcher.pool._idle_s = 0.0
        third = fetcher.fetch("https://a.test/good")
        assert (third.body, third.hops[-1].reused, site.connections, site.resumed) == (BODY, False, 2, 1)
        wrong_host = fetcher.fetch("https://b.test/good")
        assert wrong_host.reason is Reason.TLS_FAILURE
        fetcher.close()


def test_threads_share_one_tls_context(certificate):
    """A session offered in another context is refused by OpenSSL."""
    tls._create_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with running(GOOD, context) as site, ThreadPoolExecutor(8) as threads:
        policy = policy_for(site, ca_file=str(certificate[0]), resolve={"*": f"127.0.0.1:{site.port}"})
        fetcher = Fetcher(policy)
        fetched = list(threads.map(fetcher.fetch, ["https://a.test/good"] * 40))
        assert {one.reason for one in fetched} == {Reason.SUCCESS}
        assert tls._create_context.cache_info().misses == 1
        fetcher.close()


def test_one_fetcher_per_policy_and_process():
    policy = FetchPolicy(resolve={"*.test": "127.0.0.1:1"})
    assert shared_fetcher(policy) is shared_fetcher(FetchPolicy(resolve={"*.test": "127.0.0.1:1"}))
    assert shared_fetcher(policy) is not shared_fetcher(FetchPolicy())
