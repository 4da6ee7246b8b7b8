"""The urls of a shard, fetched by many threads; answers come out in the order in which they are there.

No more urls are under way or answered and not taken than `_AHEAD` for each thread: that bounds the memory. A thread
that finds so many rests, and is called only when the answers get short (`_SHORT`): where sites answer at once a few
threads do all the work, for to wake one costs a tenth of a fetch, and where they are slow all of them are busy.

A URL whose host rests (Retry-After) or is busy with its bound of requests is put aside as long as there are others, so
that one host never holds all threads. When only such are left, threads wait for their hosts.
"""

import heapq
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType

from laion_assets.http.fetch import Fetched, Fetcher

_AHEAD = 2
_SHORT = 1.5
"""Urls for each thread. `_SHORT` is over 1: all threads are called before there is no answer left."""


@dataclass
class Tally:
    """What a queue has fetched so far; the run's own figures, never the counts that a manifest states."""

    requests: int = 0
    attempts: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0
    seconds: float = 0.0

    def add(self, fetched: Fetched) -> None:
        """Count one URL."""
        self.requests += 1
        self.attempts += fetched.attempts
        self.wire_bytes += fetched.wire_bytes
        self.body_bytes += len(fetched.body)
        self.seconds += fetched.seconds

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "requests": self.requests,
            "attempts": self.attempts,
            "wire_bytes": self.wire_bytes,
            "body_bytes": self.body_bytes,
            "fetch_seconds": round(self.seconds, 3),
        }


class FetchQueue:
    """Fetches `urls` while it is entered; for one consumer. `tally` counts what was taken.

    A large body keeps its bytes of the fetcher's budget until the consumer says that it is `done` with it. What nobody
    took when the queue is left gives its bytes back, and urls under way then are fetched in vain.
    """

    def __init__(self, fetcher: Fetcher, urls: Sequence[str], threads: int) -> None:
        self._fetcher = fetcher
        self._urls = urls
        self._threads = min(threads, len(urls))
        self._most, self._short = _AHEAD * self._threads, _SHORT * self._threads
        self._lock = threading.Lock()
        self._begun = self._ahead = self._resting = 0
        self._aside: list[tuple[float, int]] = []
        self._is_left = False
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[int, Fetched]] = SimpleQueue()
        self.tally = Tally()

    def __enter__(self) -> "FetchQueue":
        for _ in range(self._threads):
            threading.Thread(target=self._work, name="fetch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_left = True
            resting = self._resting
        for _ in range(resting):
            self._calls.put(None)
        with suppress(Empty):
            while True:
                self.done(self._answers.get(block=False)[1])

    def take(self, wait: bool) -> tuple[int, Fetched] | None:
        """The place of a URL among `urls` and what became of it; None where there is none yet and `wait` is false.

        Each URL is answered once: the caller counts them, and waits for no more than there are.
        """
        try:
            answer = self._answers.get(block=wait)
        except Empty:
            return None
        self.tally.add(answer[1])
        with self._lock:
            self._ahead -= 1
            called = self._resting > 0 and self._ahead < self._short
            self._resting -= called
        if called:
            self._calls.put(None)
        return answer

    def done(self, fetched: Fetched) -> None:
        """Give the bytes of a body back to the fetcher's budget."""
        self._fetcher.budget.give(fetched.held)

    def _work(self) -> None:
        was_aside = False
        while (place := self._next(fresh=was_aside)) is not None:
            was_aside = self._put_aside(place)
            if not was_aside:
                self._fetch(place)

    def _next(self, fresh: bool) -> int | None:
        """The place of the next URL to fetch, as soon as there is room for its answer; None when there is none.

        Those put aside come first when their time is there, unless a `fresh` one is wanted: many may have to go aside
        again.
        """
        while True:
            with self._lock:
                if self._is_left or (self._begun == len(self._urls) and not self._aside):
                    return None
                if self._ahead < self._most:
                    self._ahead += 1
                    due = bool(self._aside) and not fresh and self._aside[0][0] <= time.monotonic()
                    if due or self._begun == len(self._urls):
                        return heapq.heappop(self._aside)[1]
                    self._begun += 1
                    return self._begun - 1
                self._resting += 1
            self._calls.get()

    def _put_aside(self, place: int) -> bool:
        """Whether the URL was left for later, since its host rests or is busy and there are others."""
        wait_s = self._fetcher.wait_s(self._urls[place])
        if wait_s <= 0:
            return False
        with self._lock:
            if self._begun == len(self._urls):
                return False
            heapq.heappush(self._aside, (time.monotonic() + wait_s, place))
            self._ahead -= 1
        return True

    def _fetch(self, place: int) -> None:
        """In a call of its own: a thread that rests holds no body."""
        fetched = self._fetcher.fetch(self._urls[place], hold=True)
        with self._lock:
            if not self._is_left:
                self._answers.put((place, fetched))
                return
        self.done(fetched)
