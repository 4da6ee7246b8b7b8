"""Politeness: no host and no address gets more than its share of requests at once, and a host's "later" is heeded.

Slots are given in the order of asking. A wait costs a URL its patience, never its deadline.
"""

import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from laion_assets.http.clock import Clock
from laion_assets.reasons import Reason, Rejection

MAX_PAUSE_S = 600.0
"""A longer Retry-After is cut to this: no host is given up for a day because of one answer."""
_MANY_PAUSES = 1_000
_BUSY_S = 0.05
"""When to look again whether a host with others waiting for it has a slot."""


@dataclass
class _Place:
    """The requests to one host or address: how many run, and who waits."""

    running: int = 0
    waiting: deque[threading.Event] = field(default_factory=deque)


class HostLimiter:
    """Bounded parallel requests by host and by address, and pauses by host. Thread-safe, one a fetcher.

    Both bounds hold, so that one server with many names is spared, too. `address` None, for a site of the operator's
    own (`resolve`), leaves the bound of the host alone. A host that rests longer than `max_rest_s` is not waited for.
    """

    def __init__(self, per_host: int, per_address: int, max_rest_s: float) -> None:
        self._max_rest_s = max_rest_s
        self._per_host = per_host
        self._per_address = per_address
        self._lock = threading.Lock()
        self._places: dict[Hashable, _Place] = {}
        self._paused: dict[str, float] = {}
        self._waiting = 0

    @property
    def crowded(self) -> bool:
        """Whether `wait_s` may be more than 0 for any host."""
        return bool(self._paused) or self._waiting > 0

    def wait_s(self, host: str) -> float:
        """How long a request to the host had better not begin: it rests, or others wait for it already."""
        with self._lock:
            place = self._places.get(host)
            busy = place is not None and place.waiting and place.running >= self._per_host
        return max(self._pause_left(host), _BUSY_S if busy else 0.0)

    def enter(self, host: str, address: Hashable | None, clock: Clock) -> None:
        """Take a slot of the host and of the address. Raises Rejection `host_busy` when patience is over."""
        self._enter(host, clock)
        if address is not None:
            try:
                self._take(address, self._per_address, clock)
            except BaseException:
                self._leave(host)
                raise

    def leave(self, host: str, address: Hashable | None) -> None:
        """Give the slots back; those who wait longest get them."""
        if address is not None:
            self._leave(address)
        self._leave(host)

    def pause(self, host: str, seconds: float) -> None:
        """Start no request to the host for so long (at most MAX_PAUSE_S); a longer pause that runs already stays."""
        now = time.monotonic()
        until = now + min(seconds, MAX_PAUSE_S)
        with self._lock:
            self._paused[host] = max(until, self._paused.get(host, 0.0))
            if len(self._paused) > _MANY_PAUSES:
                self._paused = {name: end for name, end in self._paused.items() if end > now}

    def _enter(self, host: str, clock: Clock) -> None:
        """A slot of a host that is not paused, neither before nor after waiting for it."""
        while True:
            pause_s = self._pause_left(host)
            if pause_s > min(self._max_rest_s, clock.queue_timeout_s):
                raise Rejection(Reason.HOST_BUSY, "the host asked us to rest longer than we wait for it")
            if pause_s > 0:
                time.sleep(pause_s)
                clock.add_queue_time(pause_s)
            self._take(host, self._per_host, clock)
            if self._pause_left(host) <= 0:
                return
            self._leave(host)

    def _pause_left(self, host: str) -> float:
        until = self._paused.get(host)
        return 0.0 if until is None else max(0.0, until - time.monotonic())

    def _take(self, key: Hashable, limit: int, clock: Clock) -> None:
        with self._lock:
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = _Place()
            if place.running < limit:
                place.running += 1
                return
            mine = threading.Event()
            place.waiting.append(mine)
            self._waiting += 1
        started = time.monotonic()
        mine.wait(max(0.0, clock.queue_timeout_s))
        clock.add_queue_time(time.monotonic() - started)
        with self._lock:
            self._waiting -= 1
            if mine.is_set():  # the slot was handed over: `running` counts it already
                return
            place.waiting.remove(mine)
        raise Rejection(Reason.HOST_BUSY, "its host's other requests took longer than images.host_wait_s allows")

    def _leave(self, key: Hashable) -> None:
        with self._lock:
            place = self._places[key]
            if place.waiting:
                place.waiting.popleft().set()
                return
            place.running -= 1
            if place.running == 0:
                del self._places[key]
