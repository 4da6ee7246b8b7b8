"""URLs fetched by many threads: each has one result, read-ahead is bounded, and no host occupies all threads."""

import threading
import time

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.fetch import Fetcher
from laion_assets.http.fetch_queue import FetchQueue
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, running

BODY = b"\xff\xd8\xff" + bytes(500)


def fetcher_for(site, **changes):
    return Fetcher(FetchPolicy(**({"retries": 1, "resolve": site.resolve} | changes)))


def taken(queue, count):
    return [queue.take(wait=True) for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 3, 64])
def test_each_url_has_one_result(threads):
    with running({"/a.jpg": answer(BODY)}) as site:
        urls = [f"http://h{number}.test/{'a' if number % 3 else 'gone'}.jpg" for number in range(200)]
        with FetchQueue(fetcher_for(site), urls, threads) as queue:
            answers = taken(queue, len(urls))
            assert queue.take(wait=False) is None
    assert sorted(place for place, _ in answers) == list(range(200))
    assert all(fetched.url == urls[place] for place, fetched in answers)
    assert {fetched.reason for place, fetched in answers if place % 3} == {Reason.SUCCESS}
    assert (queue.totals.requests, queue.totals.body_bytes) == (200, sum(len(one.body) for _, one in answers))


def test_at_most_two_urls_per_thread_are_ahead():
    with running({"/a.jpg": answer(BODY)}) as site:
        with FetchQueue(fetcher_for(site), ["http://h.test/a.jpg"] * 50, 4) as queue:
            time.sleep(0.5)
            assert len(site.seen) == 8
            taken(queue, 50)
    assert len(site.seen) == 50


def test_slow_sites_keep_all_threads_busy():
    now, most, lock = [0], [0], threading.Lock()

    def slow(sock):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.1)
        with lock:
            now[0] -= 1
        answer(BODY)(sock)

    with running({"/a.jpg": slow}) as site:
        with FetchQueue(fetcher_for(site), [f"http://h{number}.test/a.jpg" for number in range(60)], 12) as queue:
            taken(queue, 60)
    assert most[0] == 12


def test_host_that_backs_off_occupies_no_thread_while_there_are_other_urls():
    asked = []

    def resting(sock):
        asked.append(time.monotonic())
        rests = asked[-1] - asked[0] < 1.5
        answer(b"" if rests else BODY, "503 Service Unavailable" if rests else "200 OK", "Retry-After: 2")(sock)

    with running({"/later.jpg": resting, "/a.jpg": answer(BODY)}) as site:
        urls = [f"http://rests.test/later.jpg?{number}" for number in range(40)]
        urls += [f"http://h{number}.test/a.jpg" for number in range(200)]
        started = time.monotonic()
        with FetchQueue(fetcher_for(site, requests_per_host=3), urls, 8) as queue:
            first = taken(queue, 200)
            others_s = time.monotonic() - started
            rest = taken(queue, 40)
    assert {place >= 40 for place, _ in first} == {True}
    assert others_s < 1.9, "they waited for the host that rests"
    assert {fetched.reason for _, fetched in [*first, *rest]} == {Reason.SUCCESS}


def test_busy_host_occupies_few_threads_while_there_are_other_urls():
    def slow(sock):
        time.sleep(0.2)
        answer(BODY)(sock)

    with running({"/slow.jpg": slow, "/a.jpg": answer(BODY)}) as site:
        urls = [f"http://busy.test/slow.jpg?{number}" for number in range(24)]
        urls += [f"http://h{number}.test/a.jpg" for number in range(100)]
        started = time.monotonic()
        with FetchQueue(fetcher_for(site, requests_per_host=2), urls, 8) as queue:
            order = [place for place, _ in taken(queue, len(urls))]
            seconds = time.monotonic() - started
    others_done = max(order.index(place) for place in range(24, 124))
    assert sum(place < 24 for place in order[:others_done]) < 12, "the others waited for the busy host"
    assert 2.4 <= seconds < 6
