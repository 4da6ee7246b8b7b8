"""How much time one URL has left: to be answered, and to wait for others."""

import time
from dataclasses import dataclass, field

from laion_assets.http.busy_time import BusyTime, busy_time
from laion_assets.reasons import Reason, Rejection

MAX_STRETCH = 10.0
"""A busy machine makes a URL's time at most so many times as long."""
_SERVED = 0.9
"""Share of a time limit in which the machine must have been able to work, for the limit to be the site's fault."""


@dataclass
class Clock:
    """When a URL's time is over, on the monotonic clock, the longest silence before that, and its patience.

    Patience, in seconds, is for waits that the URL's own server is not to blame for (its host's turn, memory): they
    move the deadline, and are bounded together. Time in which this machine was too busy (`busy`) moves the deadline,
    too, up to MAX_STRETCH times `deadline_s`; a URL that fails then has the reason `local_failure`, not `deadline`.
    """

    ends: float
    silence_s: float
    deadline_s: float
    patience_s: float = 0.0
    busy: BusyTime = field(default_factory=busy_time)

    def __post_init__(self) -> None:
        self._lost_before = self._lost_at_wait = self.busy.lost_s
        self._waits_since, self._limit_s = time.monotonic(), self.silence_s

    @classmethod
    def start(cls, deadline_s: float, silence_s: float, patience_s: float = 0.0) -> "Clock":
        """A clock that starts now."""
        return cls(time.monotonic() + deadline_s, silence_s, deadline_s, patience_s)

    def left(self) -> float:
        """Seconds until the deadline. Raises Rejection at its end: `deadline`, or `local_failure` if we were busy."""
        left = self._end() - time.monotonic()
        if left <= 0:
            raise self.expired()
        return left

    def wait(self) -> float:
        """The timeout for the next operation on a socket. Raises Rejection as `left`."""
        self._limit_s = min(self.left(), self.silence_s)
        self._waits_since, self._lost_at_wait = time.monotonic(), self.busy.lost_s
        return self._limit_s * min(self.busy.slowdown, MAX_STRETCH)

    def waited(self, seconds: float) -> None:
        """Take a wait off the patience, and move the deadline by it."""
        self.ends += seconds
        self.patience_s = max(0.0, self.patience_s - seconds)
        self._lost_before += min(seconds, self._lost())  # what was lost during the wait moved the deadline already

    def expired(self) -> Rejection:
        """The rejection of a URL that took too long."""
        if self._lost() >= (MAX_STRETCH - 1) * self.deadline_s:
            return self._busy()
        return too_slow()

    def timed_out(self) -> Rejection:
        """The rejection after a socket's timeout: the deadline, or too long a silence before it.

        `local_failure` where the machine was too busy in that time: another `wait` may follow.
        """
        now = time.monotonic()
        if now >= self._end():
            return self.expired()
        served_s = now - self._waits_since - (self.busy.lost_s - self._lost_at_wait)
        if served_s < _SERVED * self._limit_s:
            return self._busy()
        return too_slow()

    def _busy(self) -> Rejection:
        return Rejection(Reason.LOCAL_FAILURE, "this machine was too busy to wait for the answer")

    def _lost(self) -> float:
        return self.busy.lost_s - self._lost_before

    def _end(self) -> float:
        return self.ends + min(self._lost(), (MAX_STRETCH - 1) * self.deadline_s)


def too_slow() -> Rejection:
    """The rejection of a site that took too long, by whatever limit: which one ends first varies from run to run."""
    return Rejection(Reason.DEADLINE, "no complete answer in time")
