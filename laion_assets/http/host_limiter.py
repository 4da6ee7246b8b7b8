"""Per-host and per-address limits of parallel requests, and back-off after Retry-After.

Slots are granted first come, first served. A wait counts against a URL's queue timeout, never against its deadline.
"""

import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from laion_assets.http.clock import Clock
from laion_assets.reasons import Reason, Rejection

MAX_BACK_OFF_S = 600.0
"""Limit for a longer Retry-After, so that one response does not block a host for a day."""
_MANY_BACK_OFFS = 1_000
_BUSY_S = 0.05
"""Time after which a host whose slots are all taken is checked again."""


@dataclass
class _Slots:
    """The requests to one host or address: the number running, and the waiting ones."""

    running: int = 0
    waiting: deque[threading.Event] = field(default_factory=deque)


class HostLimiter:
    """Limits parallel requests per host and per address, and pauses hosts that ask for it. Thread-safe.

    Both limits apply, so that one server with many host names is not overloaded. With `address` None, for a host that
    the operator mapped with `resolve`, only the host's limit applies. A request fails at once if its host backs off
    for longer than `max_back_off_s`.
    """

    def __init__(self, per_host: int, per_address: int, max_back_off_s: float) -> None:
        self._max_back_off_s = max_back_off_s
        self._per_host = per_host
        self._per_address = per_address
        self._lock = threading.Lock()
        self._slots: dict[Hashable, _Slots] = {}
        self._back_off_ends: dict[str, float] = {}
        self._waiting = 0

    @property
    def has_waits(self) -> bool:
        """Whether `wait_s` may be more than 0 for any host."""
        return bool(self._back_off_ends) or self._waiting > 0

    def wait_s(self, host: str) -> float:
        """Return the seconds to wait before a request to the host: it backs off, or other requests wait for it."""
        with self._lock:
            slots = self._slots.get(host)
            busy = slots is not None and slots.waiting and slots.running >= self._per_host
        return max(self._back_off_s(host), _BUSY_S if busy else 0.0)

    def acquire(self, host: str, address: Hashable | None, clock: Clock) -> None:
        """Acquire a slot of the host and one of the address. Raises Rejection `host_busy` at the queue timeout."""
        self._acquire_host(host, clock)
        if address is not None:
            try:
                self._acquire(address, self._per_address, clock)
            except BaseException:
                self._release(host)
                raise

    def release(self, host: str, address: Hashable | None) -> None:
        """Release the slots. The request that has waited longest gets each of them."""
        if address is not None:
            self._release(address)
        self._release(host)

    def back_off(self, host: str, seconds: float) -> None:
        """Start no request to the host for this long, at most MAX_BACK_OFF_S. Never shortens a running back-off."""
        now = time.monotonic()
        until = now + min(seconds, MAX_BACK_OFF_S)
        with self._lock:
            self._back_off_ends[host] = max(until, self._back_off_ends.get(host, 0.0))
            if len(self._back_off_ends) > _MANY_BACK_OFFS:
                self._back_off_ends = {name: end for name, end in self._back_off_ends.items() if end > now}

    def _acquire_host(self, host: str, clock: Clock) -> None:
        """Acquire a slot of a host that does not back off, neither before nor after waiting for the slot."""
        while True:
            pause_s = self._back_off_s(host)
            if pause_s > min(self._max_back_off_s, clock.queue_timeout_s):
                raise Rejection(
                    Reason.HOST_BUSY, "Retry-After of the host is longer than images.fetch.max_retry_after_s"
                )
            if pause_s > 0:
                time.sleep(pause_s)
                clock.add_queue_time(pause_s)
            self._acquire(host, self._per_host, clock)
            if self._back_off_s(host) <= 0:
                return
            self._release(host)

    def _back_off_s(self, host: str) -> float:
        until = self._back_off_ends.get(host)
        return 0.0 if until is None else max(0.0, until - time.monotonic())

    def _acquire(self, key: Hashable, limit: int, clock: Clock) -> None:
        with self._lock:
            slots = self._slots.get(key)
            if slots is None:
                slots = self._slots[key] = _Slots()
            if slots.running < limit:
                slots.running += 1
                return
            granted = threading.Event()
            slots.waiting.append(granted)
            self._waiting += 1
        started = time.monotonic()
        granted.wait(max(0.0, clock.queue_timeout_s))
        clock.add_queue_time(time.monotonic() - started)
        with self._lock:
            self._waiting -= 1
            if granted.is_set():  # `release` passed the slot on: `running` counts it already
                return
            slots.waiting.remove(granted)
        raise Rejection(Reason.HOST_BUSY, "its host's other requests took longer than images.fetch.host_wait_s allows")

    def _release(self, key: Hashable) -> None:
        with self._lock:
            slots = self._slots[key]
            if slots.waiting:
                slots.waiting.popleft().set()
                return
            slots.running -= 1
            if slots.running == 0:
                del self._slots[key]
