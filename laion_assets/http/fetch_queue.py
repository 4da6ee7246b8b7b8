"""A shard's URLs, fetched by many threads. Results arrive in order of completion.

To limit memory, at most `_AHEAD` URLs per thread are in progress or fetched but not taken. A thread above this limit
becomes idle. It is woken only when few results are left (`_LOW`): where sites answer at once a few threads do all the
work, because waking a thread costs a tenth of a fetch. Where sites are slow, all threads are busy.

A URL whose host backs off (Retry-After) or has no free slot is deferred while there are other URLs, so that one host
never occupies all threads. When only deferred URLs are left, threads wait for their hosts.
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
_LOW = 1.5
"""URLs per thread. `_LOW` is over 1, so that all threads are woken before no result is left."""


@dataclass
class FetchTotals:
    """Totals of what a queue has fetched so far. They are statistics of the run, not the counts of a manifest."""

    requests: int = 0
    attempts: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0
    seconds: float = 0.0

    def add(self, fetched: Fetched) -> None:
        """Add the figures of one URL."""
        self.requests += 1
        self.attempts += fetched.attempts
        self.wire_bytes += fetched.wire_bytes
        self.body_bytes += len(fetched.body)
        self.seconds += fetched.seconds

    def as_dict(self) -> dict[str, float]:
        """Return the totals by name."""
        return {
            "requests": self.requests,
            "attempts": self.attempts,
            "wire_bytes": self.wire_bytes,
            "body_bytes": self.body_bytes,
            "fetch_seconds": round(self.seconds, 3),
        }


class FetchQueue:
    """Fetches `urls` inside a `with` block, for one consumer. `totals` counts the results that were taken.

    A large body keeps its bytes of the fetcher's memory budget until the consumer calls `release`. On exit, results
    that were not taken are released, and the results of URLs still in progress are discarded.
    """

    def __init__(self, fetcher: Fetcher, urls: Sequence[str], threads: int) -> None:
        self._fetcher = fetcher
        self._urls = urls
        self._threads = min(threads, len(urls))
        self._max_ahead, self._low = _AHEAD * self._threads, _LOW * self._threads
        self._lock = threading.Lock()
        self._started = self._ahead = self._idle = 0
        self._deferred: list[tuple[float, int]] = []
        self._is_closed = False
        self._wake_ups: SimpleQueue[None] = SimpleQueue()
        self._results: SimpleQueue[tuple[int, Fetched]] = SimpleQueue()
        self.totals = FetchTotals()

    def __enter__(self) -> "FetchQueue":
        for _ in range(self._threads):
            threading.Thread(target=self._work, name="fetch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_closed = True
            idle = self._idle
        for _ in range(idle):
            self._wake_ups.put(None)
        with suppress(Empty):
            while True:
                self.release(self._results.get(block=False)[1])

    def take(self, wait: bool) -> tuple[int, Fetched] | None:
        """Return the index of a URL in `urls` and its result; None if there is none yet and `wait` is false.

        Each URL has one result. The caller counts them and waits for no more than there are.
        """
        try:
            result = self._results.get(block=wait)
        except Empty:
            return None
        self.totals.add(result[1])
        with self._lock:
            self._ahead -= 1
            wakes = self._idle > 0 and self._ahead < self._low
            self._idle -= wakes
        if wakes:
            self._wake_ups.put(None)
        return result

    def release(self, fetched: Fetched) -> None:
        """Return the bytes of a body to the fetcher's memory budget."""
        self._fetcher.budget.release(fetched.reserved_bytes)

    def _work(self) -> None:
        was_deferred = False
        while (index := self._next(skip_deferred=was_deferred)) is not None:
            was_deferred = self._defer(index)
            if not was_deferred:
                self._fetch(index)

    def _next(self, skip_deferred: bool) -> int | None:
        """Wait for room for another result, and return the index of the next URL; None if there is none.

        Deferred URLs whose time has come are first, except with `skip_deferred`: many may be deferred again.
        """
        while True:
            with self._lock:
                if self._is_closed or (self._started == len(self._urls) and not self._deferred):
                    return None
                if self._ahead < self._max_ahead:
                    self._ahead += 1
                    is_due = bool(self._deferred) and not skip_deferred and self._deferred[0][0] <= time.monotonic()
                    if is_due or self._started == len(self._urls):
                        return heapq.heappop(self._deferred)[1]
                    self._started += 1
                    return self._started - 1
                self._idle += 1
            self._wake_ups.get()

    def _defer(self, index: int) -> bool:
        """Defer the URL if its host backs off or has no free slot and there are other URLs. Return whether it was."""
        wait_s = self._fetcher.wait_s(self._urls[index])
        if wait_s <= 0:
            return False
        with self._lock:
            if self._started == len(self._urls):
                return False
            heapq.heappush(self._deferred, (time.monotonic() + wait_s, index))
            self._ahead -= 1
        return True

    def _fetch(self, index: int) -> None:
        """Fetch one URL. A separate method, so that an idle thread keeps no reference to a body."""
        fetched = self._fetcher.fetch(self._urls[index], keep_reservation=True)
        with self._lock:
            if not self._is_closed:
                self._results.put((index, fetched))
                return
        self.release(fetched)
