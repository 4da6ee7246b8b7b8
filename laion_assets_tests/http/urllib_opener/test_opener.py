"""urllib behind the guard: no connection to an address that was not checked, and no response beyond the limits."""

import ssl
from dataclasses import replace

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.urllib_opener import connection
from laion_assets.http.urllib_opener.opener import GuardedOpener, Request
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver
from laion_assets.reasons import Reason, Rejection
from laion_assets_tests.http.test_fetch import CHUNKED, OK, chunked, drip, redirect, reset, silence
from laion_assets_tests.http.urls.test_guard import Names
from laion_assets_tests.http.urls.test_hostile_urls import INWARD
from laion_assets_tests.stages.image_shards.site import answer, raw, running

LIMIT = 100_000
BODY = b"\xff\xd8\xff" + bytes(range(256)) * 20
POLICY = FetchPolicy(connect_timeout_s=0.6, deadline_s=1.2, max_body_bytes=LIMIT, max_bytes_in_flight=2 * LIMIT)


def fetch(url, opener):
    """The body, or the reason of the failure, as img2dataset's `download_image` asks for it."""
    try:
        with opener.open(Request(url, data=None, headers={"User-Agent": "img2dataset"}), timeout=5) as response:
            return response.read()
    except Rejection as rejection:
        return rejection.reason


def fetch_page(page, path="/x.jpg", **policy):
    with running({"/x.jpg": page, "/good.jpg": answer(BODY)}) as site:
        return fetch(f"http://photos.test{path}", GuardedOpener(replace(POLICY, resolve=site.resolve, **policy)))


@pytest.fixture
def no_connections(monkeypatch):
    """Record the endpoints of connections, without connecting."""
    endpoints = []

    def connect(checked, clock):
        endpoints.extend(map(str, checked))
        raise Rejection(Reason.CONNECT_FAILURE, "not in this test")

    monkeypatch.setattr(connection, "connect_socket", connect)
    return endpoints


@pytest.mark.parametrize("url", INWARD)
def test_url_into_the_private_network_is_refused(url, no_connections):
    refused = {INWARD[url], Reason.INVALID_URL, Reason.BLOCKED_ADDRESS}  # urllib parses some of them in another way
    assert fetch(url, GuardedOpener(POLICY)) in refused
    assert no_connections == []


@pytest.mark.parametrize("url", INWARD)
def test_redirect_into_the_private_network_is_refused(url):
    pages = {"/x.jpg": redirect(url), "/good.jpg": answer(BODY)}
    with running(pages) as site:
        resolve = {"photos.test": f"127.0.0.1:{site.port}"}
        found = fetch("http://photos.test/x.jpg", GuardedOpener(replace(POLICY, resolve=resolve)))
        assert isinstance(found, Reason)
        assert found is not Reason.INTERNAL
        assert all(path.startswith("/x.jpg") or found is Reason.HTTP_404 for path in site.seen)


def test_address_that_was_checked_is_the_one_connected_to(no_connections):
    names = Names(rebind_test=[["93.184.216.34"], ["127.0.0.1"]])
    opener = GuardedOpener(POLICY, Guard({}, (80,), Resolver(names)))
    assert fetch("http://rebind.test/x.jpg", opener) is Reason.CONNECT_FAILURE
    assert fetch("http://rebind.test/x.jpg", opener) is Reason.CONNECT_FAILURE
    assert (no_connections, names.asked) == (["93.184.216.34:80"] * 2, ["rebind.test"])


def test_name_of_a_private_address_is_refused(no_connections):
    names = Names(home_test=[["127.0.0.1"]], office_test=[["10.0.0.7"]], mixed_test=[["10.0.0.7", "93.184.216.34"]])
    opener = GuardedOpener(POLICY, Guard({}, (80,), Resolver(names)))
    assert fetch("http://home.test/x.jpg", opener) is Reason.BLOCKED_ADDRESS
    assert fetch("http://office.test/x.jpg", opener) is Reason.BLOCKED_ADDRESS
    assert fetch("http://mixed.test/x.jpg", opener) is Reason.CONNECT_FAILURE
    assert no_connections == ["93.184.216.34:80"]


def test_port_that_is_not_allowed_is_refused_also_after_a_redirect(no_connections):
    names = Names(photos_test=[["93.184.216.34"]])
    opener = GuardedOpener(POLICY, Guard({}, (80,), Resolver(names)))
    assert fetch("http://photos.test:22/x.jpg", opener) is Reason.BLOCKED_PORT
    assert no_connections == []


def test_redirect_to_another_port_is_refused():
    with running({"/x.jpg": redirect("http://127.0.0.2:22/")}) as site:
        opener = GuardedOpener(replace(POLICY, resolve=site.resolve))
        assert fetch(site.url("/x.jpg"), opener) is Reason.BLOCKED_ADDRESS


def test_blocked_networks_of_the_dataset_are_refused(no_connections):
    names = Names(photos_test=[["93.184.216.34"]])
    guard = Guard({}, (80,), Resolver(names), blocked_networks=("93.184.0.0/16",))
    assert fetch("http://photos.test/x.jpg", GuardedOpener(POLICY, guard)) is Reason.BLOCKED_ADDRESS


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    with running({}) as proxy, running({"/x.jpg": answer(BODY)}) as site:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        assert fetch(site.url("/x.jpg"), GuardedOpener(replace(POLICY, resolve=site.resolve))) == BODY
        assert proxy.seen == []


def test_request_carries_the_user_agent_of_the_settings_and_no_credentials():
    with running({"/x.jpg": redirect("/good.jpg"), "/good.jpg": answer(BODY)}) as site:
        opener = GuardedOpener(replace(POLICY, resolve=site.resolve, user_agent="laion-assets (+contact)"))
        assert fetch(site.url("/x.jpg"), opener) == BODY
        for request in site.requests:
            headers = [line.split(b":")[0].lower() for line in request.split(b"\r\n")[1:] if line]
            assert sorted(headers) == [b"accept-encoding", b"connection", b"host", b"user-agent"]
            assert b"User-Agent: laion-assets (+contact)\r\n" in request


PAGES = {
    "body": (answer(BODY), BODY),
    "body of exactly the limit": (answer(b"x" * LIMIT), b"x" * LIMIT),
    "chunks of exactly the limit": (chunked(b"x" * LIMIT), b"x" * LIMIT),
    "until close": (raw(OK + b"\r\n", BODY), BODY),
    "too large, announced": (answer(b"x", length=LIMIT + 1), Reason.TOO_LARGE),
    "too large, chunked": (chunked(b"x" * LIMIT, b"x"), Reason.TOO_LARGE),
    "too large, until close": (raw(OK + b"\r\n", b"x" * (LIMIT + 1)), Reason.TOO_LARGE),
    "redirect with a body too large": (answer(b"x" * (LIMIT + 1), "302 Found", "Location: /"), Reason.TOO_LARGE),
    "endless body": (drip(CHUNKED, b"1\r\nx\r\n"), Reason.DEADLINE),
    "endless headers": (drip(OK, b"X: y\r\n"), Reason.DEADLINE),
    "endless 100 Continue": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Reason.DEADLINE),
    "silence": (silence(), Reason.DEADLINE),
    "silence after the headers": (silence(OK + b"Content-Length: 10\r\n\r\n"), Reason.DEADLINE),
    "short body": (answer(BODY, length=len(BODY) + 1), Reason.SHORT_BODY),
    "short chunk": (raw(CHUNKED, b"ff\r\nabc"), Reason.SHORT_BODY),
    "malformed chunk": (raw(CHUNKED, b"zz\r\n"), Reason.SHORT_BODY),
    "reset": (reset(), Reason.CONNECTION_RESET),
    "closed without a response": (raw(b""), Reason.CONNECTION_RESET),
    "not HTTP": (raw(b"SSH-2.0-x\r\n\r\n"), Reason.BAD_RESPONSE),
    "header line too long": (raw(OK + b"X: " + b"x" * 70_000), Reason.BAD_RESPONSE),
    "too many headers": (raw(OK + b"X: y\r\n" * 200 + b"\r\n"), Reason.BAD_RESPONSE),
    "404": (answer(b"", "404 Not Found"), Reason.HTTP_404),
    "redirect without Location": (answer(b"", "302 Found"), Reason.BAD_REDIRECT),
    "redirect to itself": (redirect("/x.jpg"), Reason.REDIRECT_LOOP),
    "redirect to a file": (redirect("file:///etc/passwd"), Reason.UNSUPPORTED_SCHEME),
    "redirect to ftp": (redirect("ftp://photos.test/x.jpg"), Reason.UNSUPPORTED_SCHEME),
    "noai": (answer(BODY, "200 OK", "X-Robots-Tag: noai"), Reason.OPTED_OUT),
    "TDM": (answer(BODY, "200 OK", "TDM-Reservation: 1"), Reason.OPTED_OUT),
    "Content-Usage": (answer(BODY, "200 OK", "Content-Usage: train-ai=n"), Reason.OPTED_OUT),
    "noai for another bot": (answer(BODY, "200 OK", "X-Robots-Tag: somebot: noai"), BODY),
}


@pytest.mark.parametrize("name", PAGES)
def test_page_ends_with_its_reason(name):
    page, expected = PAGES[name]
    assert fetch_page(page) == expected


def test_slow_download_ends_before_the_deadline(monkeypatch):
    monkeypatch.setattr(connection, "MIN_RATE_GRACE_S", 0.3)
    slow = {"deadline_s": 30.0, "connect_timeout_s": 10.0, "min_bytes_per_s": 10_000}
    assert fetch_page(drip(CHUNKED, b"1\r\nx\r\n"), **slow) is Reason.DEADLINE


def test_redirects_are_followed_up_to_the_limit_of_the_settings():
    pages = {f"/{n}": redirect(f"/{n + 1}") for n in range(3)} | {"/3": answer(BODY)}
    with running(pages) as site:
        policy = replace(POLICY, resolve=site.resolve)
        assert fetch(site.url("/0"), GuardedOpener(replace(policy, max_redirects=3))) == BODY
        assert fetch(site.url("/0"), GuardedOpener(replace(policy, max_redirects=2))) is Reason.TOO_MANY_REDIRECTS
        assert fetch(site.url("/2"), GuardedOpener(replace(policy, max_redirects=0))) is Reason.TOO_MANY_REDIRECTS


def test_certificate_and_host_name_are_verified(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with running({"/x.jpg": answer(BODY)}, context) as site:
        policy = replace(POLICY, connect_timeout_s=5.0, deadline_s=10.0, resolve=site.resolve)
        trusting = replace(policy, ca_file=str(certificate[0]))
        assert fetch("https://a.test/x.jpg", GuardedOpener(trusting)) == BODY
        assert fetch("https://b.test/x.jpg", GuardedOpener(trusting)) is Reason.TLS_FAILURE
        assert fetch("https://a.test/x.jpg", GuardedOpener(policy)) is Reason.TLS_FAILURE


def test_stopped_opener_sends_no_request():
    with running({"/x.jpg": answer(BODY)}) as site:
        opener = GuardedOpener(replace(POLICY, resolve=site.resolve))
        opener.stop()
        assert fetch(site.url("/x.jpg"), opener) is Reason.LOCAL_FAILURE
        assert site.seen == []


def test_connections_are_closed_after_each_response():
    with running({"/x.jpg": answer(BODY), "/404": answer(b"", "404 Not Found")}) as site:
        opener = GuardedOpener(replace(POLICY, resolve=site.resolve))
        for path in ("/x.jpg", "/404", "/x.jpg"):
            fetch(site.url(path), opener)
        assert site.connections == 3
        assert [visit.hops[-1].status for visit in opener.visits] == [200, 404, 200]
