"""The time limits of one URL: its deadline, its read timeout and its queue timeout."""

import time

from laion_assets.http.busy_time import BusyTime, busy_time
from laion_assets.reasons import Reason, Rejection

MAX_STRETCH = 10.0
"""A busy machine extends a URL's time limits by this factor at most."""
_MIN_AVAILABLE = 0.9
"""Share of a timeout in which the machine must have been able to work, for the site to be the cause."""


class Clock:
    """The time limits of one URL, in seconds. `ends_at` is its deadline on the monotonic clock.

    `read_timeout_s` limits each wait for the server: for a connection and for the next byte. `queue_timeout_s` limits
    all waits in a queue together (for a slot of the host, for memory): they do not count against the deadline.

    Time in which this machine was too busy (`busy`) extends the deadline, up to MAX_STRETCH times `deadline_s`. A URL
    that fails then has the reason `local_failure` instead of `deadline`.
    """

    __slots__ = (
        "_limit_s", "_lost_at_start_s", "_lost_at_wait_s", "_wait_started", "busy", "deadline_s", "ends_at",
        "queue_timeout_s", "read_timeout_s",
    )  # fmt: skip

    def __init__(
        self,
        ends_at: float,
        read_timeout_s: float,
        deadline_s: float,
        queue_timeout_s: float = 0.0,
        busy: BusyTime | None = None,
    ) -> None:
        self.ends_at, self.read_timeout_s, self.deadline_s = ends_at, read_timeout_s, deadline_s
        self.queue_timeout_s = queue_timeout_s
        self.busy = busy = busy or busy_time()
        self._lost_at_start_s = self._lost_at_wait_s = busy.lost_s
        self._wait_started, self._limit_s = time.monotonic(), read_timeout_s

    @classmethod
    def start(cls, deadline_s: float, read_timeout_s: float, queue_timeout_s: float = 0.0) -> "Clock":
        """Start a clock now."""
        return cls(time.monotonic() + deadline_s, read_timeout_s, deadline_s, queue_timeout_s)

    def remaining_s(self) -> float:
        """Return the seconds until the deadline.

        Raises Rejection after it: `deadline`, or `local_failure` if this machine was too busy.
        """
        remaining = self._deadline() - time.monotonic()
        if remaining <= 0:
            raise self.deadline_rejection()
        return remaining

    def start_wait(self) -> float:
        """Return the timeout for the next operation on a socket, in seconds. Raises Rejection as `remaining_s`."""
        now, busy = time.monotonic(), self.busy
        lost_s = busy.lost_s
        remaining = self.ends_at - now
        if lost_s != self._lost_at_start_s:
            remaining = self._deadline() - now
        if remaining <= 0:
            raise self.deadline_rejection()
        limit_s = self.read_timeout_s
        if remaining < limit_s:
            limit_s = remaining
        self._limit_s, self._wait_started, self._lost_at_wait_s = limit_s, now, lost_s
        slowdown = busy.slowdown
        return limit_s if slowdown == 1.0 else limit_s * min(slowdown, MAX_STRETCH)

    def add_queue_time(self, seconds: float) -> None:
        """Take time spent in a queue off the queue timeout, and extend the deadline by it."""
        self.ends_at += seconds
        self.queue_timeout_s = max(0.0, self.queue_timeout_s - seconds)
        # Time that was lost while waiting in the queue has extended the deadline already.
        self._lost_at_start_s += min(seconds, self._lost_s())

    def deadline_rejection(self) -> Rejection:
        """Return the rejection of a URL whose deadline is over."""
        if self._lost_s() >= (MAX_STRETCH - 1) * self.deadline_s:
            return _machine_too_busy()
        return too_slow()

    def timeout_rejection(self) -> Rejection:
        """Return the rejection after a timeout of a socket, at the deadline or before it.

        It is `local_failure` if the machine was too busy during the wait: the caller may wait again.
        """
        now = time.monotonic()
        if now >= self._deadline():
            return self.deadline_rejection()
        available_s = now - self._wait_started - (self.busy.lost_s - self._lost_at_wait_s)
        if available_s < _MIN_AVAILABLE * self._limit_s:
            return _machine_too_busy()
        return too_slow()

    def _lost_s(self) -> float:
        return self.busy.lost_s - self._lost_at_start_s

    def _deadline(self) -> float:
        return self.ends_at + min(self._lost_s(), (MAX_STRETCH - 1) * self.deadline_s)


def too_slow() -> Rejection:
    """Return the rejection of a site that was too slow. All limits share one text: which ends first varies."""
    return Rejection(Reason.DEADLINE, "no complete response in time")


def _machine_too_busy() -> Rejection:
    return Rejection(Reason.LOCAL_FAILURE, "this machine was too busy to read the response")
