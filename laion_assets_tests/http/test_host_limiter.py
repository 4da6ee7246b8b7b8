"""Politeness: bounded parallel requests by host and address, and a host's Retry-After applies to all its URLs."""

import ipaddress
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.clock import Clock
from laion_assets.http.fetch import Fetcher
from laion_assets.http.host_limiter import HostLimiter
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver
from laion_assets.reasons import Reason, Rejection
from laion_assets_tests.stages.image_shards.site import answer, running

BODY = b"\xff\xd8\xff" + bytes(5_000)


def slowly(body, seconds):
    def talk(sock):
        time.sleep(seconds)
        answer(body)(sock)

    return talk


def test_host_limit_holds_and_does_not_block_other_hosts():
    release = threading.Event()

    def held(sock):
        release.wait(30)
        answer(BODY)(sock)

    with running({"/slow": held, "/fast": answer(BODY)}) as site:
        policy = FetchPolicy(deadline_s=30.0, connect_timeout_s=30.0, requests_per_host=2, resolve=site.resolve)
        fetcher = Fetcher(policy)
        with ThreadPoolExecutor(16) as threads:
            slow = [threads.submit(fetcher.fetch, site.url("/slow", host="big.test")) for _ in range(8)]
            time.sleep(0.05)
            fast = [threads.submit(fetcher.fetch, site.url("/fast", host=f"h{n}.test")) for n in range(8)]
            assert [one.result().reason for one in fast] == [Reason.SUCCESS] * 8
            assert not any(one.done() for one in slow)
            release.set()
            assert [one.result().reason for one in slow] == [Reason.SUCCESS] * 8
        assert site.most_open <= 2 + 8
        assert sorted(site.seen[:2]) == ["/slow", "/slow"]
        fetcher.close()


def test_limit_per_address_holds_for_many_host_names(monkeypatch):
    monkeypatch.setattr("laion_assets.http.urls.guard.refusal", lambda address, *_, **__: None)
    with running({"/": slowly(BODY, 0.1)}) as site:
        resolver = Resolver(lambda host: [ipaddress.ip_address("127.0.0.1")])
        policy = FetchPolicy(requests_per_host=2, requests_per_address=3, idle_connections=0)
        fetcher = Fetcher(policy, Guard({}, (site.port,), resolver))
        with ThreadPoolExecutor(12) as threads:
            urls = [f"http://name{number}.example:{site.port}/" for number in range(12)]
            assert {one.reason for one in threads.map(fetcher.fetch, urls)} == {Reason.SUCCESS}
        assert 2 <= site.most_open <= 3 + 1  # a server's thread may end a moment after its client's turn


def test_queue_time_does_not_count_against_the_deadline():
    with running({"/": slowly(BODY, 0.3)}) as site:
        policy = FetchPolicy(
            deadline_s=0.8, connect_timeout_s=0.6, requests_per_host=1, resolve=site.resolve, retries=0
        )
        with ThreadPoolExecutor(5) as threads:
            fetched = list(threads.map(Fetcher(policy).fetch, [site.url("/")] * 5))
        assert [one.reason for one in fetched] == [Reason.SUCCESS] * 5
        assert max(one.hops[0].waited_s for one in fetched) > 0.8


def test_queue_timeout_is_host_busy_and_sends_nothing():
    with running({"/": slowly(BODY, 0.6)}) as site:
        policy = FetchPolicy(requests_per_host=1, resolve=site.resolve, host_wait_s=0.2, retries=1)
        with ThreadPoolExecutor(3) as threads:
            fetched = list(threads.map(Fetcher(policy).fetch, [site.url("/")] * 3))
        assert sorted(one.reason for one in fetched) == [Reason.HOST_BUSY, Reason.HOST_BUSY, Reason.SUCCESS]
        assert site.seen == ["/"]
        assert {one.attempts for one in fetched} == {1}


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_makes_only_its_host_back_off(status):
    asked = []

    def busy(sock):
        asked.append(time.monotonic())
        if len(asked) == 1:
            answer(b"", status, "Retry-After: 1")(sock)
        else:
            answer(BODY)(sock)

    with running({"/busy": busy, "/good": answer(BODY)}) as site:
        fetcher = Fetcher(FetchPolicy(retries=1, resolve=site.resolve))
        with ThreadPoolExecutor(4) as threads:
            first = threads.submit(fetcher.fetch, site.url("/busy", host="a.test"))
            time.sleep(0.2)
            same = threads.submit(fetcher.fetch, site.url("/good", host="a.test"))
            assert fetcher.fetch(site.url("/good", host="b.test")).hops[0].waited_s < 0.5
            assert (first.result().reason, first.result().attempts) == (Reason.SUCCESS, 2)
            assert same.result().reason is Reason.SUCCESS
            assert same.result().hops[0].waited_s > 0.5
        assert asked[1] - asked[0] >= 0.99
        fetcher.close()


def test_long_retry_after_fails_further_requests_to_the_host():
    with running({"/": answer(b"", "429 Slow down", "Retry-After: 3600"), "/good": answer(BODY)}) as site:
        fetcher = Fetcher(FetchPolicy(retries=1, resolve=site.resolve, max_retry_after_s=0.5))
        assert (fetcher.fetch(site.url("/")).reason, site.seen) == (Reason.HTTP_429, ["/"])
        later = fetcher.fetch(site.url("/good"))
        assert (later.reason, later.attempts, later.hops[0].waited_s) == (Reason.HOST_BUSY, 1, None)
        assert site.seen == ["/"]
        assert fetcher.fetch(site.url("/good", host="other.test")).reason is Reason.SUCCESS
        fetcher.close()


def test_slots_are_granted_in_order_and_all_released():
    limiter = HostLimiter(1, 1, 30)
    order = []

    def take(number):
        limiter.acquire("a", "1.2.3.4", Clock.start(10, 10, 10))
        order.append(number)
        time.sleep(0.02)
        limiter.release("a", "1.2.3.4")

    threads = []
    for number in range(6):
        threads.append(threading.Thread(target=take, args=(number,)))
        threads[-1].start()
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert order == list(range(6))
    assert limiter._slots == {}


def test_cancelled_waiter_releases_no_slot():
    limiter = HostLimiter(1, 1, 30)
    limiter.acquire("a", "1.2.3.4", Clock.start(1, 1, 1))
    for host, address in (("a", None), ("b", "1.2.3.4")):
        with pytest.raises(Rejection, match="host_busy"):
            limiter.acquire(host, address, Clock.start(1, 1, 0.05))
    limiter.release("a", "1.2.3.4")
    limiter.acquire("b", "1.2.3.4", Clock.start(1, 1, 0))
    limiter.release("b", "1.2.3.4")
    assert limiter._slots == {}


def test_ended_back_offs_are_dropped():
    limiter = HostLimiter(1, 1, 30)
    for number in range(3_000):
        limiter.back_off(f"h{number}", 0.0)
    assert len(limiter._back_off_ends) < 1_100
