"""Time in which this machine was overloaded is not counted against the deadline of a request."""

import threading
import time

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http import busy_time as module
from laion_assets.http.busy_time import INTERVAL_S, BusyTime, busy_time
from laion_assets.http.clock import MAX_STRETCH, Clock
from laion_assets.http.fetch import fetch
from laion_assets.reasons import Reason, Rejection
from laion_assets_tests.stages.image_shards.site import answer, running

HASTY = FetchPolicy(connect_timeout_s=0.3, deadline_s=0.5, retries=0)
ADD = BusyTime.add


@pytest.fixture
def measure(monkeypatch):
    """A measure that adds up again: the other tests of this folder switch it off."""
    monkeypatch.setattr(BusyTime, "add", ADD)
    return BusyTime()


@pytest.mark.parametrize(
    ("elapsed_s", "tasks_per_core", "lost_s"),
    [
        (INTERVAL_S, 0.5, 0.0),
        (INTERVAL_S + 0.005, 2.0, 0.0),
        (INTERVAL_S + 0.4, 0.5, 0.4),
        (INTERVAL_S, 8.0, 0.75 * INTERVAL_S),
        (INTERVAL_S + 0.4, 4.0, 0.4 + 0.5 * INTERVAL_S),
    ],
)
def test_lag_and_cpu_contention_are_lost_time(elapsed_s, tasks_per_core, lost_s, measure):
    measure.add(elapsed_s, tasks_per_core)
    assert measure.lost_s == pytest.approx(lost_s)


def test_slowdown_covers_the_last_second(measure):
    for _ in range(30):
        measure.add(INTERVAL_S, 8.0)
    assert measure.slowdown == pytest.approx(4.0)
    for _ in range(10):
        measure.add(INTERVAL_S, 1.0)
    assert measure.slowdown == 1.0


def test_unknown_number_of_tasks_counts_as_zero(monkeypatch):
    def missing(*arguments, **named):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert module.count_runnable_tasks() == 0


def test_lost_time_extends_the_deadline_up_to_a_limit():
    busy = BusyTime()
    clock = Clock(time.monotonic() + 10, 5.0, 10.0, busy=busy)
    busy.lost_s = 7.0
    assert clock.remaining_s() == pytest.approx(17, abs=0.5)
    busy.lost_s = 1e6
    assert clock.remaining_s() == pytest.approx(MAX_STRETCH * 10, abs=0.5)
    clock.ends_at -= MAX_STRETCH * 10
    with pytest.raises(Rejection, match="local_failure: this machine was too busy"):
        clock.remaining_s()


def test_queue_time_is_not_counted_twice():
    busy = BusyTime()
    clock = Clock(time.monotonic() + 10, 5.0, 10.0, 60.0, busy)
    busy.lost_s = 4.0
    clock.add_queue_time(6.0)
    assert clock.remaining_s() == pytest.approx(16, abs=0.5)


class Losing:
    """Loses this share of the time while it is entered."""

    def __init__(self, share):
        self.share, self.ended = share, threading.Event()

    def __enter__(self):
        def lose():
            before = time.monotonic()
            while not self.ended.wait(0.02):
                now = time.monotonic()
                busy_time().lost_s += self.share * (now - before)
                before = now

        threading.Thread(target=lose, daemon=True).start()

    def __exit__(self, *_):
        self.ended.set()


def late(seconds):
    def talk(sock):
        time.sleep(seconds)
        answer(b"here")(sock)

    return talk


def test_busy_machine_extends_the_deadline_and_an_idle_one_does_not():
    with running({"/late.jpg": late(0.9)}) as site:
        policy = FetchPolicy(**{**vars(HASTY), "resolve": site.resolve})
        assert fetch(site.url("/late.jpg"), policy).reason is Reason.DEADLINE
        with Losing(0.8):
            assert fetch(site.url("/late.jpg"), policy).reason is Reason.SUCCESS


def test_overloaded_machine_is_a_local_failure():
    with running({"/late.jpg": late(9)}) as site, Losing(0.97):
        policy = FetchPolicy(**{**vars(HASTY), "resolve": site.resolve})
        started = time.monotonic()
        assert fetch(site.url("/late.jpg"), policy).reason is Reason.LOCAL_FAILURE
        assert time.monotonic() - started < 8
