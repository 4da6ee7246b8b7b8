"""The memory budget: large bodies share it, waits are bounded, and all reserved bytes are released."""

import gzip
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.clock import Clock
from laion_assets.http.fetch import Fetcher
from laion_assets.http.fetch_queue import FetchQueue
from laion_assets.http.memory_budget import FREE_BYTES, MemoryBudget, Reservation, charged_bytes
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, raw, running

MB = 1_000_000
CAP = 2 * MB
BIG = b"\xff\xd8\xff" + bytes(CAP - 3)
OK = b"HTTP/1.1 200 OK\r\n"
LARGE = {
    "/announced": answer(BIG),
    "/unannounced": raw(OK + b"\r\n", BIG),
    "/chunked": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % CAP, BIG, b"\r\n0\r\n\r\n"),
    "/gzip": answer(gzip.compress(BIG), "200 OK", "Content-Encoding: gzip"),
    "/gzip-noise": answer(
        gzip.compress(random.Random(1).randbytes(CAP - 1_000), 0), "200 OK", "Content-Encoding: gzip"
    ),
}


def fetcher_for(site, **changes):
    bounds = {"max_body_bytes": CAP, "max_bytes_in_flight": 2 * CAP, "retries": 0, "resolve": site.resolve}
    return Fetcher(FetchPolicy(**(bounds | changes)))


@pytest.mark.parametrize("path", LARGE)
def test_large_bodies_share_the_memory_budget_and_release_it(path):
    with running(LARGE) as site:
        fetcher = fetcher_for(site, requests_per_host=16)
        budget, least = fetcher.budget, []
        reserve = budget.reserve

        def record(size, clock):
            reserve(size, clock)
            least.append(budget.free_bytes)

        budget.reserve = record
        with ThreadPoolExecutor(12) as threads:
            fetched = list(threads.map(fetcher.fetch, [site.url(path)] * 12))
        assert {one.reason for one in fetched} == {Reason.SUCCESS}
        assert 0 <= min(least) < 2 * CAP
        assert fetcher.budget.free_bytes == 2 * CAP
        fetcher.close()


def test_small_bodies_need_no_reservation():
    with running({"/": answer(bytes(FREE_BYTES - 1))}) as site:
        fetcher = fetcher_for(site, host_wait_s=0.1)
        fetcher.budget.reserve(2 * CAP, Clock.start(1, 1, 1))
        assert fetcher.fetch(site.url("/")).reason is Reason.SUCCESS


def test_large_body_without_memory_in_time_is_a_retryable_local_failure():
    with running(LARGE) as site:
        fetcher = fetcher_for(site, host_wait_s=0.2)
        fetcher.budget.reserve(2 * CAP, Clock.start(1, 1, 1))
        fetched = fetcher.fetch(site.url("/announced"))
        assert (fetched.reason, fetched.reason.is_local_failure, fetched.reason.is_retryable) == (
            Reason.LOCAL_FAILURE,
            True,
            True,
        )
        assert fetcher.budget.free_bytes == 0


@pytest.mark.parametrize("fault", ["/too-large", "/short", "/404"])
def test_failed_fetch_releases_its_reservation(fault):
    pages = {
        "/too-large": raw(OK + b"\r\n", BIG, b"more"),
        "/short": raw(OK + b"Content-Length: %d\r\n\r\n" % CAP, BIG[:-1]),
        "/404": answer(BIG, "404 Not Found"),
    }
    with running(pages) as site:
        fetcher = fetcher_for(site)
        assert fetcher.fetch(site.url(fault), keep_reservation=True).reserved_bytes == 0
        assert fetcher.budget.free_bytes == 2 * CAP


def test_queued_body_keeps_its_reservation_until_released():
    with running(LARGE) as site:
        fetcher = fetcher_for(site, host_wait_s=0.3)
        with FetchQueue(fetcher, [site.url("/announced")] * 3, threads=3) as queue:
            taken = [queue.take(wait=True)[1] for _ in "123"]
            assert sorted(one.reason.value for one in taken) == ["local_failure", "success", "success"]
            assert fetcher.budget.free_bytes == 0
            queue.release(next(one for one in taken if one.reason is Reason.SUCCESS))
            assert fetcher.budget.free_bytes == CAP


def test_closed_queue_releases_untaken_results():
    with running(LARGE) as site:
        fetcher = fetcher_for(site, host_wait_s=30)
        with FetchQueue(fetcher, [site.url("/announced")] * 9, threads=3) as queue:
            queue.release(queue.take(wait=True)[1])
        ends = time.monotonic() + 10
        while fetcher.budget.free_bytes < 2 * CAP and time.monotonic() < ends:
            time.sleep(0.01)
        assert fetcher.budget.free_bytes == 2 * CAP


ATTACKED = """
import sys
from laion_assets.http.fetch import shared_fetcher
from laion_assets.http.fetch_queue import FetchQueue
from laion_assets.dataset.fetch_policy import FetchPolicy

def peak_mb():
    return next(int(line.split()[1]) / 1000 for line in open("/proc/self/status") if line.startswith("VmHWM"))

policy = FetchPolicy(resolve={"*.test": sys.argv[1]}, max_bytes_in_flight=60_000_000, requests_per_host=32,
                     deadline_s=60, connect_timeout_s=60)
urls = [f"http://h{number % 5}.test/{'abc'[number % 3]}" for number in range(90)]
before = peak_mb()
with FetchQueue(shared_fetcher(policy), urls, 32) as queue:
    for _ in urls:
        fetched = queue.take(wait=True)[1]
        assert fetched.reason.value == "success", fetched
        queue.release(fetched)
        del fetched
print(peak_mb() - before)
"""


def test_resident_memory_stays_near_the_budget_under_ninety_bodies_of_twenty_megabytes():
    """32 threads and a queue of 64: 1.3 GB without the budget."""
    bomb = b"\xff\xd8\xff" + bytes(19_990_000)
    chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(bomb)
    pages = {
        "/a": answer(bomb),
        "/b": raw(chunk, bomb, b"\r\n0\r\n\r\n"),
        "/c": answer(gzip.compress(bomb), "200 OK", "Content-Encoding: gzip"),
    }
    with running(pages) as site:
        command = [sys.executable, "-c", ATTACKED, f"127.0.0.1:{site.port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert 20 < float(done.stdout) < 150


def test_budget_is_fair_and_never_exceeded():
    budget = MemoryBudget(10 * FREE_BYTES)
    taken = []

    def use(seed):
        rng = random.Random(seed)
        for _ in range(30):
            reservation = Reservation(budget, Clock.start(30, 30, 30))
            size = rng.randrange(1, 10 * FREE_BYTES)
            reservation.reserve(size)
            taken.append(budget.free_bytes)
            time.sleep(0.0005)
            reservation.shrink(rng.randrange(size))
            reservation.shrink(0)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(16)))
    assert min(taken) >= 0
    assert budget.free_bytes == 10 * FREE_BYTES


def test_only_large_bodies_are_charged():
    assert (charged_bytes(0), charged_bytes(FREE_BYTES), charged_bytes(FREE_BYTES + 1)) == (0, 0, FREE_BYTES + 1)
